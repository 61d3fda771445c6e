# SPDX-License-Identifier: Apache-2.0
"""Functions and scripts really run in several processes, and failures come through."""

import subprocess
import sys
import time

import psutil
import pytest
import torch
import torch.distributed as dist

from tests.support.distributed import run_function, run_script
from tests.support.processes import kill_tree, run_python


ACCELERATE_SCRIPT = """
import sys
from accelerate import Accelerator
accelerator = Accelerator()
rank, count, device = accelerator.process_index, accelerator.num_processes, accelerator.device.type
sys.stdout.write(f"{rank} {count} {device} {sys.argv[1:]}\\n")  # in one piece: the other process writes too
"""


def sum_over_ranks(offset: float) -> dict[str, float]:
    value = torch.tensor(offset + dist.get_rank())
    dist.all_reduce(value)
    return {"rank": dist.get_rank(), "sum": value.item()}


def fail_on_rank(rank: int) -> None:
    if dist.get_rank() == rank:
        raise RuntimeError("this rank gives up")


def test_a_function_runs_in_every_rank_of_one_group():
    assert run_function(sum_over_ranks, nproc=2, offset=10.0) == [{"rank": 0, "sum": 21.0}, {"rank": 1, "sum": 21.0}]


def test_a_failing_rank_is_reported():
    with pytest.raises(AssertionError, match="this rank gives up"):
        run_function(fail_on_rank, nproc=2, rank=1)


def test_only_functions_of_a_module_are_taken():
    with pytest.raises(ValueError, match="top level"):
        run_function(lambda: 0, nproc=2)


@pytest.mark.parametrize("nproc", [1, 2])
def test_a_script_gets_its_processes_from_accelerate(tmp_path, nproc):
    script = tmp_path / "script.py"
    script.write_text(ACCELERATE_SCRIPT)
    printed = run_script(script, "--flag", nproc=nproc, folder=tmp_path).stdout
    for rank in range(nproc):
        assert f"{rank} {nproc} cpu ['--flag']" in printed


def test_a_child_that_runs_too_long_is_killed(tmp_path):
    begin = time.monotonic()
    finished = run_python("import time; time.sleep(60)", folder=tmp_path, timeout=1, check=False)
    assert finished.returncode == -9 and "killed after 1 seconds" in finished.stderr
    assert time.monotonic() - begin < 20


def test_a_child_cannot_leave_the_loopback_interface(tmp_path):
    code = "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 80), timeout=1)\nexcept OSError as e:\n    print(e)"
    finished = run_python(code, folder=tmp_path)
    assert "refused" in finished.stdout and finished.outside == ["socket.getaddrinfo 192.0.2.1"]


def test_kill_tree_reaches_grandchildren_in_their_own_session(tmp_path):
    marker = tmp_path / "pid"
    grandchild = f"import os, time; open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}], start_new_session=True)"
    process = subprocess.Popen([sys.executable, "-c", code])
    while not (marker.exists() and marker.read_text()):
        time.sleep(0.02)
    kill_tree(process)
    process.wait()
    pid = int(marker.read_text())
    deadline = time.monotonic() + 10  # a signal takes a moment to be carried out
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
