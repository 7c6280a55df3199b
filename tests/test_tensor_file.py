"""Tensor files are reproducible, and any changed byte is detected."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blocknerf.errors import RunError
from blocknerf.tensor_file import DATA_DIGEST, DIGEST, TensorFile
from tests.tensor_files import rewrite

KIND = TensorFile(format="test.weights/2", what="set of weights", remedy="make it again", error=RunError)
METADATA = {"step": "7", "name": "Straße"}


def tensors() -> dict[str, Tensor]:
    return {
        "table": torch.arange(12.0).view(4, 3),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "half": torch.ones(3, dtype=torch.float16),
        "transposed": torch.arange(6.0).view(2, 3).T,
        "empty": torch.zeros(0, 4),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    KIND.write(path, tensors(), METADATA)
    return path


def test_content_round_trips(saved: Path) -> None:
    metadata, loaded = KIND.read(saved)
    assert metadata.items() >= METADATA.items()
    assert metadata == KIND.read_metadata(saved)
    assert loaded.keys() == tensors().keys()
    assert all(torch.equal(loaded[name], value) for name, value in tensors().items())


def test_safetensors_reads_the_file(saved: Path) -> None:
    loaded = load_file(saved)
    assert all(torch.equal(loaded[name], value) for name, value in tensors().items())


def test_the_bytes_depend_only_on_the_content(saved: Path, tmp_path: Path) -> None:
    """Neither the order of the arguments nor the hash seed of Python matters."""
    other = tmp_path / "b.safetensors"
    KIND.write(other, dict(reversed(tensors().items())), dict(reversed(METADATA.items())))
    assert other.read_bytes() == saved.read_bytes()
    script = "import sys; from tests.test_tensor_file import *; KIND.write(Path(sys.argv[1]), tensors(), METADATA)"
    for seed in ("1", "2"):
        subprocess.run([sys.executable, "-c", script, str(other)], env={"PYTHONHASHSEED": seed}, check=True)
        assert other.read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("bit", [0, 7])
def test_any_changed_byte_is_rejected(saved: Path, bit: int) -> None:
    content = saved.read_bytes()
    for index in range(len(content)):
        changed = bytearray(content)
        changed[index] ^= 1 << bit
        saved.write_bytes(changed)
        with pytest.raises(RunError) as caught:
            KIND.read(saved)
        message = str(caught.value)
        assert message.startswith(f"{saved}: ")
        assert message.endswith(("; make it again", "; update blocknerf"))
        assert "\n" not in message


def test_changed_data_are_reported_as_damage(saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[:-8] + b"\0" * 8)
    with pytest.raises(RunError) as caught:
        KIND.read(saved)
    reason = "damaged: its content does not match its digest"
    assert str(caught.value) == f"{saved}: not a readable set of weights ({reason}); make it again"
    assert KIND.read_metadata(saved)["step"] == "7", "the header is intact"


@pytest.mark.parametrize("length", [0, 3, 8, 20, 0.5, 0.99])
def test_a_truncated_or_extended_file_is_rejected(saved: Path, length: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: length if isinstance(length, int) else int(length * len(content))])
    with pytest.raises(RunError, match="not a readable set of weights"):
        KIND.read(saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(RunError, match="not a readable set of weights"):
        KIND.read(saved)


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b"3", b'{"__metadata__": 3}', b'{"__metadata__": {"a": 1}}'])
def test_an_invalid_header_is_rejected(saved: Path, header: bytes) -> None:
    saved.write_bytes(len(header).to_bytes(8, "little") + header)
    for read in (KIND.read, KIND.read_metadata):
        with pytest.raises(RunError, match="; make it again"):
            read(saved)


def test_a_file_without_digests_is_rejected(saved: Path) -> None:
    save_file({"table": torch.zeros(3)}, saved, metadata={"format": KIND.format})
    with pytest.raises(RunError, match="damaged"):
        KIND.read(saved)


def test_a_header_with_a_huge_length_is_rejected(saved: Path) -> None:
    saved.write_bytes(b"\xff" * 8 + b"{}")
    for read in (KIND.read, KIND.read_metadata):
        with pytest.raises(RunError, match="not a readable set of weights"):
            read(saved)


def test_digests_are_sha256(saved: Path) -> None:
    metadata = KIND.read_metadata(saved)
    assert all(len(metadata[key]) == 64 for key in (DIGEST, DATA_DIGEST))
    other = saved.with_name("b.safetensors")
    KIND.write(other, tensors(), METADATA | {"step": "8"})
    assert KIND.read_metadata(other)[DATA_DIGEST] == metadata[DATA_DIGEST]
    assert KIND.read_metadata(other)[DIGEST] != metadata[DIGEST]


def test_rewritten_files_are_valid(saved: Path) -> None:
    rewrite(KIND, saved, {"bytes": None}, name=None, facts=json.dumps([1]))
    metadata, loaded = KIND.read(saved)
    assert "bytes" not in loaded
    assert metadata["facts"] == "[1]"
    assert "name" not in metadata
