"""The rate of a page's messages, and which of them viser gets."""

from typing import Any

import msgspec
import pytest

from viewer.message_filter import BURST, DROPPED, MAX_FILE_BYTES, MAX_PARTS, RATE, MessageFilter

EMPTY = {"size_bytes": 0, "part_count": 0}


def encoded(kind: str, **fields: Any) -> bytes:
    return msgspec.msgpack.encode({"type": kind, **fields})


def start(name: str, size: Any, parts: Any) -> bytes:
    return encoded("FileTransferStartUpload", transfer_uuid=name, size_bytes=size, part_count=parts, filename="a")


def part(name: str, index: Any, content: Any) -> bytes:
    return encoded("FileTransferPart", transfer_uuid=name, part_index=index, content=content)


def starts(page: MessageFilter, message: bytes) -> bool:
    """Whether an upload starts; a refused one must become an empty file."""
    forwarded = page.forwarded(message)
    assert forwarded is not None
    fields = msgspec.msgpack.decode(message)
    assert msgspec.msgpack.decode(forwarded) in (fields, fields | EMPTY)
    return forwarded == message


def test_a_normal_page_is_never_delayed() -> None:
    page = MessageFilter()
    for tick in range(10_000):
        assert page.delay(0.02 * tick) == 0.0  # a camera every 20 ms, and a slider's value every 50 ms
        assert tick % 5 or page.delay(0.02 * tick) + page.delay(0.02 * tick) == 0.0
    assert sum(page.delay(200.0) for _ in range(int(BURST))) < 1.0


def test_a_flood_is_delayed_to_the_rate() -> None:
    page, now = MessageFilter(), 7.0
    for _ in range(10_000):
        now += page.delay(now)
    assert pytest.approx(BURST + RATE * (now - 7.0), abs=2.0) == 10_000
    assert page.delay(now + 1e6) == 0.0, "silence drains the backlog"
    delays = [page.delay(now + 1e6) for _ in range(int(BURST + RATE) - 1)]
    assert delays[-1] == pytest.approx(1.0), "but does not accumulate"


def test_messages_of_a_page_are_forwarded_unchanged() -> None:
    for message in (encoded("ViewerCameraMessage", fov=1.0), encoded("GuiUpdateMessage", content=3, size_bytes="a")):
        assert MessageFilter().forwarded(message) == message
    assert all(MessageFilter().forwarded(encoded(kind)) is None for kind in DROPPED)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"garbage",
        encoded("FileTransferStartUpload"),
        start("a", "1", 1),
        start("a", 1.5, 1),
        part("a", 0.0, b""),
        part("a", True, b""),
        part("a", 0, "text"),
        part("a", 0, None),
    ],
)
def test_malformed_messages_raise(message: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        MessageFilter().forwarded(message)


@pytest.mark.parametrize(
    ("size", "parts"), [(MAX_FILE_BYTES + 1, 65), (-1, 1), (1 << 62, 1), (1000, MAX_PARTS + 1), (1000, -1)]
)
def test_uploads_that_are_too_large_are_refused(size: int, parts: int) -> None:
    page = MessageFilter()
    assert not starts(page, start("a", size, parts))
    assert page.forwarded(part("a", 0, b"1")) is None
    assert starts(page, start("b", MAX_FILE_BYTES, MAX_PARTS))


def test_parts_beyond_the_announced_size_or_count_and_repeated_ones_are_dropped() -> None:
    page = MessageFilter()
    assert page.forwarded(part("a", 0, b"")) is None, "no upload has started"
    assert starts(page, start("a", 1000, 3))
    parts = [
        ("a", 0, 900),
        ("a", 0, 10),
        ("b", 1, 1),
        ("a", 3, 0),
        ("a", -1, 0),
        ("a", 1, 50),
        ("a", 2, 51),
        ("a", 2, 1),
    ]
    forwarded = [page.forwarded(part(name, index, bytes(size))) is not None for name, index, size in parts]
    assert forwarded == [True, False, False, False, False, True, False, False]


def test_one_file_is_uploaded_at_a_time() -> None:
    page = MessageFilter()
    assert starts(page, start("a", 2, 2))
    assert page.forwarded(part("a", 1, b"1"))
    for name in ("a", "b"):
        assert not starts(page, start(name, 2, 2))
        assert page.forwarded(part("b", 0, b"1")) is None
    assert page.forwarded(part("a", 0, b"1"))
    assert starts(page, start("empty", 0, 0))
    assert starts(page, start("c", 2, 2))
