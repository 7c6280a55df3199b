"""One thread setting for PyTorch and Numba."""

import os
import subprocess
import sys

import numba
import pytest
import torch

from blocknerf.errors import OptionError
from blocknerf.kernels.threads import apply_numba_threads, available_cores, set_num_threads


def test_pytorch_uses_one_thread_and_numba_the_set_number() -> None:
    try:
        assert set_num_threads(1) == 1
        assert (torch.get_num_threads(), numba.get_num_threads()) == (1, 1)
    finally:
        assert set_num_threads() == available_cores()
    assert (torch.get_num_threads(), apply_numba_threads()) == (1, available_cores())


def test_small_work_can_use_fewer_threads() -> None:
    set_num_threads()
    assert apply_numba_threads(max_threads=1) == 1
    assert apply_numba_threads() == available_cores()


def test_zero_threads_raise() -> None:
    with pytest.raises(OptionError, match=r"--threads 0 .* at least 1"):
        set_num_threads(0)


def test_waiting_is_passive_unless_the_user_set_it() -> None:
    code = (
        "import sys, os, blocknerf.kernels.threads\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    for policy, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
        environment |= {} if policy is None else {"OMP_WAIT_POLICY": policy}
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == expected
