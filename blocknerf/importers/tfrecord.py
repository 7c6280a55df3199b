"""TFRecord files and `tf.train.Example` messages, read with NumPy.

A record is its length (uint64), a masked CRC-32C of the length, the data, and a masked CRC-32C of the data, all
little-endian (TensorFlow, "TFRecord and tf.train.Example"). A file may be compressed with gzip.
"""

import gzip
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float32, Int64, UInt32

from blocknerf.errors import CaptureError
from blocknerf.files import open_regular

MAX_RECORD = 1 << 30
"""Maximum bytes of a record; one of 960 x 1280 pixels with its rays takes 35 MB."""
_POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), bits reversed."""
_MASK_DELTA = 0xA282EAD8
_LANES = 4096
"""Parts of the data; NumPy computes their checksums together."""
_VARINT, _BYTES = 0, 2
"""Wire types of protocol buffers."""

Feature = bytes | Float32[np.ndarray, "values"] | Int64[np.ndarray, "values"]


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the data of each record of a file, plain or gzip, after both checksums.

    Raises:
        CaptureError: the file is missing, cut short, not a TFRecord, or a checksum is wrong; names the record.
    """
    try:
        with open_regular(path, "TFRecord", CaptureError) as (raw, _):
            is_gzip = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: BufferedIOBase = gzip.GzipFile(fileobj=raw) if is_gzip else cast(BufferedIOBase, raw)
            number = 0
            while header := stream.read(12):
                yield _read_record(stream, header, f"{path}: record {number}")
                number += 1
    except FileNotFoundError:
        raise CaptureError(f"{path}: this TFRecord does not exist; restore it") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
        raise CaptureError(f"{path}: its gzip data are broken or cut short ({fault}); download it again") from None


def parse_example(data: bytes, where: str) -> dict[str, Feature]:
    """Return the features of a `tf.train.Example`: bytes, float32 or int64 values by name.

    Raises:
        CaptureError: the data are not such a message.
    """
    try:
        features: dict[str, Feature] = {}
        for field, body in _fields(memoryview(data)):
            if field != 1:
                continue
            for _, entry in _fields(body):
                parts = dict(_fields(entry))
                features[bytes(parts[1]).decode()] = _feature(parts.get(2, memoryview(b"")))
        return features
    except (ValueError, KeyError, IndexError, TypeError) as fault:
        raise CaptureError(f"{where}: is not a tf.train.Example ({fault}); download the file again") from None


def masked_crc(data: bytes) -> int:
    """Return the masked CRC-32C that TFRecord stores.

    >>> hex(masked_crc(b"123456789"))
    '0xc78ab0e5'
    """
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of data.

    NumPy computes the checksums of equal parts side by side; since a CRC is linear, that of the whole is their sum
    after each is moved over the parts behind it.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table, words = _table(), len(data) // (2 * _LANES)
    crc = 0xFFFFFFFF
    if words:
        parts = np.frombuffer(data, "<u2", _LANES * words).reshape(_LANES, words)
        lanes = np.zeros(_LANES, np.uint32)
        for column in np.ascontiguousarray(parts.T):
            lanes = np.take(table, (lanes ^ column) & 0xFFFF) ^ (lanes >> np.uint32(16))
        move = _zeros_operator(2 * words)
        for lane in lanes.tolist():
            crc = _apply(move, crc) ^ lane
    for byte in data[2 * _LANES * words :]:
        crc = int(table[((crc ^ byte) & 0xFF) << 8]) ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _read_record(stream: BufferedIOBase, header: bytes, where: str) -> bytes:
    if len(header) < 12:
        raise CaptureError(f"{where}: cut short; download the file again")
    length, crc = struct.unpack("<QI", header)
    if masked_crc(header[:8]) != crc:
        raise CaptureError(f"{where}: the checksum of its length is wrong; this is no TFRecord, or download it again")
    if length > MAX_RECORD:
        raise CaptureError(f"{where}: {length >> 20:,} MiB; the limit is {MAX_RECORD >> 20:,} MiB")
    data = stream.read(length + 4)
    if len(data) < length + 4:
        raise CaptureError(f"{where}: cut short; download the file again")
    body = data[:length]
    if masked_crc(body) != struct.unpack("<I", data[length:])[0]:
        raise CaptureError(f"{where}: the checksum of its data is wrong; download the file again")
    return body


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of the length-delimited fields of a protocol buffer; skip varints."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        if key & 7 == _VARINT:
            _, position = _varint(message, position)
            continue
        if key & 7 != _BYTES:
            raise ValueError(f"wire type {key & 7}")
        size, position = _varint(message, position)
        if size > len(message) - position:
            raise ValueError("a field exceeds its message")
        yield key >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the variable-length integer at a position, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than ten bytes")


def _feature(message: memoryview) -> Feature:
    """Return a feature: a list of bytes (1), floats (2) or integers (3); numbers may be packed or not."""
    for kind, body in _fields(message):
        if kind == 1:
            values = [bytes(value) for field, value in _fields(body) if field == 1]
            return values[0] if values else b""
        if kind == 2:
            return _floats(body)
        if kind == 3:
            return _integers(body)
    return b""


def _floats(body: memoryview) -> Float32[np.ndarray, "values"]:
    if not len(body):
        return np.zeros(0, np.float32)
    if body[0] == 0x0D:  # not packed: a key before each value
        if len(body) % 5:
            raise ValueError("floats are cut short")
        rows = np.frombuffer(body, np.uint8).reshape(-1, 5)
        return np.ascontiguousarray(rows[:, 1:]).view("<f4")[:, 0].astype(np.float32)
    packed = b"".join(bytes(value) for field, value in _fields(body) if field == 1)
    if len(packed) % 4:
        raise ValueError("floats are cut short")
    return np.frombuffer(packed, "<f4").astype(np.float32)


def _integers(body: memoryview) -> Int64[np.ndarray, "values"]:
    """Decode packed variable-length integers side by side; unpacked ones have a key byte before each."""
    if len(body) and body[0] == 0x08:
        values, position = [], 0
        while position < len(body):
            if body[position] != 0x08:
                raise ValueError("integers are damaged")
            value, position = _varint(body, position + 1)
            values.append(value)
        return np.array(values, np.uint64).astype(np.int64)
    packed = np.frombuffer(b"".join(bytes(value) for field, value in _fields(body) if field == 1), np.uint8)
    if not len(packed):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero(packed < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    if not len(ends) or ends[-1] != len(packed) - 1 or (ends - starts).max() > 9:
        raise ValueError("integers are cut short")
    values_out = np.zeros(len(ends), np.uint64)
    for byte in range(int((ends - starts).max()) + 1):
        used = starts + byte <= ends
        part = packed[np.minimum(starts + byte, len(packed) - 1)].astype(np.uint64) & np.uint64(0x7F)
        values_out |= np.where(used, part << np.uint64(7 * byte), np.uint64(0))
    return values_out.astype(np.int64)


@cache
def _table() -> UInt32[np.ndarray, "65536"]:
    """Return the checksums of all pairs of bytes; that of a single byte is the one of it after a zero."""
    table = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        table = (table >> np.uint32(1)) ^ np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return table


@cache
def _zeros_operator(length: int) -> tuple[int, ...]:
    """Return the linear map of a checksum over `length` zero bytes, as the images of its 32 bits."""
    table = _table()
    step = tuple(int(table[((1 << bit) & 0xFF) << 8]) ^ ((1 << bit) >> 8) for bit in range(32))
    result = tuple(1 << bit for bit in range(32))
    while length:
        if length & 1:
            result = tuple(_apply(step, value) for value in result)
        step = tuple(_apply(step, value) for value in step)
        length >>= 1
    return result


def _apply(operator: tuple[int, ...], value: int) -> int:
    result = 0
    for image in operator:
        if value & 1:
            result ^= image
        value >>= 1
    return result
