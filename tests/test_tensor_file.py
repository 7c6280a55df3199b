"""Tensor files depend on their content alone, and any change of a byte is refused."""

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
        "turned": torch.arange(6.0).view(2, 3).T,
        "none": torch.zeros(0, 4),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    KIND.write(path, tensors(), METADATA)
    return path


def test_content_comes_back(saved: Path) -> None:
    metadata, found = KIND.read(saved)
    assert metadata.items() >= METADATA.items()
    assert metadata == KIND.read_metadata(saved)
    assert found.keys() == tensors().keys()
    assert all(torch.equal(found[name], value) for name, value in tensors().items())


def test_other_programs_read_it(saved: Path) -> None:
    found = load_file(saved)
    assert all(torch.equal(found[name], value) for name, value in tensors().items())


def test_the_bytes_depend_on_the_content_alone(saved: Path, tmp_path: Path) -> None:
    """Neither on the order in which it is given nor on the seed of Python's hashes."""
    other = tmp_path / "b.safetensors"
    KIND.write(other, dict(reversed(tensors().items())), dict(reversed(METADATA.items())))
    assert other.read_bytes() == saved.read_bytes()
    script = "import sys; from tests.test_tensor_file import *; KIND.write(Path(sys.argv[1]), tensors(), METADATA)"
    for seed in ("1", "2"):
        subprocess.run([sys.executable, "-c", script, str(other)], env={"PYTHONHASHSEED": seed}, check=True)
        assert other.read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("bit", [0, 7])
def test_any_changed_byte_is_refused(saved: Path, bit: int) -> None:
    content = saved.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        saved.write_bytes(changed)
        with pytest.raises(RunError) as caught:
            KIND.read(saved)
        message = str(caught.value)
        assert message.startswith(f"{saved}: ")
        assert message.endswith(("; make it again", "; update blocknerf"))
        assert "\n" not in message


def test_damage_is_called_damage(saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[:-8] + b"\0" * 8)
    with pytest.raises(RunError) as caught:
        KIND.read(saved)
    reason = "damaged: its content does not match its digest"
    assert str(caught.value) == f"{saved}: not a readable set of weights ({reason}); make it again"
    assert KIND.read_metadata(saved)["step"] == "7", "the header is whole"


@pytest.mark.parametrize("kept", [0, 3, 8, 20, 0.5, 0.99])
def test_a_truncated_or_extended_file_is_refused(saved: Path, kept: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(RunError, match="not a readable set of weights"):
        KIND.read(saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(RunError, match="not a readable set of weights"):
        KIND.read(saved)


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b"3", b'{"__metadata__": 3}', b'{"__metadata__": {"a": 1}}'])
def test_a_header_of_another_shape_is_refused(saved: Path, header: bytes) -> None:
    saved.write_bytes(len(header).to_bytes(8, "little") + header)
    for read in (KIND.read, KIND.read_metadata):
        with pytest.raises(RunError, match="; make it again"):
            read(saved)


def test_a_file_without_digests_is_refused(saved: Path) -> None:
    save_file({"table": torch.zeros(3)}, saved, metadata={"format": KIND.format})
    with pytest.raises(RunError, match="damaged"):
        KIND.read(saved)


def test_a_header_that_claims_to_be_endless_is_refused(saved: Path) -> None:
    saved.write_bytes(b"\xff" * 8 + b"{}")
    for read in (KIND.read, KIND.read_metadata):
        with pytest.raises(RunError, match="not a readable set of weights"):
            read(saved)


def test_digests_are_plain_sha256(saved: Path) -> None:
    metadata = KIND.read_metadata(saved)
    assert all(len(metadata[key]) == 64 for key in (DIGEST, DATA_DIGEST))
    other = saved.with_name("b.safetensors")
    KIND.write(other, tensors(), METADATA | {"step": "8"})
    assert KIND.read_metadata(other)[DATA_DIGEST] == metadata[DATA_DIGEST]
    assert KIND.read_metadata(other)[DIGEST] != metadata[DIGEST]


def test_what_a_test_rewrites_is_whole(saved: Path) -> None:
    rewrite(KIND, saved, {"bytes": None}, name=None, facts=json.dumps([1]))
    metadata, found = KIND.read(saved)
    assert "bytes" not in found
    assert metadata["facts"] == "[1]"
    assert "name" not in metadata
