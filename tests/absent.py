"""A simulated GPU, for tests of CUDA graphs on the CPU."""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch


def stand_in(monkeypatch: pytest.MonkeyPatch, graph: Callable[[], Any]) -> None:
    """Replace CUDA streams by no-ops, and CUDA graphs by `graph`."""
    stream = SimpleNamespace(device=torch.device("cuda"), wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
