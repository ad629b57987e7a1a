"""Processes side by side: results, cores, deaths, and nothing that outlives whoever began it."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import lanes

TREE = Path("/proc/self/task")


def test_every_job_gives_its_result():
    jobs = [(n,) for n in range(5)]
    assert dict(lanes.beside(math.factorial, jobs)) == {(n,): math.factorial(n) for n in range(5)}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process to a core")
def test_each_has_one_core_and_no_two_share_it():
    found = list(lanes.beside(os.sched_getaffinity, [(0,)] * len(lanes.cores())))
    assert all(len(own) == 1 for _, own in found) and set.union(*(own for _, own in found)) == set(lanes.cores())


def test_one_that_dies_is_named_and_the_others_go_on():
    found = list(lanes.beside(os._exit, [(7,), (9,)])) + list(lanes.beside(os.abort, [()]))
    assert sorted(int(code) for _, code in found) == [-signal.SIGABRT, 7, 9]
    assert all(isinstance(code, lanes.Died) for _, code in found)


def test_whoever_stops_early_stops_all(monkeypatch):
    own = lanes.cores()[:1] * 2
    monkeypatch.setattr(lanes, "cores", lambda: own)
    work = lanes.beside(time.sleep, [(600,), (0,)])
    job, _ = next(work)
    assert job == (0,) and multiprocessing.active_children()
    begun = time.monotonic()
    work.close()
    assert not multiprocessing.active_children() and time.monotonic() - begun < 60


@pytest.mark.skipif(not TREE.is_dir(), reason="no list of a process's children here")
def test_none_outlives_a_killed_parent():
    code = "import time; from scripts import lanes; list(lanes.beside(time.sleep, [(600,)]))"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    task = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    # spawn starts a resource tracker and the worker; both must be gone
    until = time.monotonic() + 60
    while len(task.read_text().split()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    children = task.read_text().split()
    assert len(children) == 2
    time.sleep(1)  # until the worker watches
    parent.kill()
    parent.wait()
    while any(Path(f"/proc/{pid}").is_dir() for pid in children) and time.monotonic() < until:
        time.sleep(0.05)
    alive = [
        pid for pid in children if Path(f"/proc/{pid}").is_dir() and " Z " not in Path(f"/proc/{pid}/stat").read_text()
    ]
    assert not alive
