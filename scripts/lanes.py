"""Work side by side in processes of one core each: training small networks gains little from a second core.

So on two cores two such processes get more done than one that has both.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

PATIENCE = 5.0  # seconds in which a process that is told to stop cleans up


def beside(work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Call `work(*job)` for each job, as many at once as there are cores, begun in order; yield (job, result) as they end.

    A process that dies gives its exit code in place of a result, as `Died`. Whoever stops early stops all that runs.
    """
    start = multiprocessing.get_context("spawn")
    waiting, free = list(jobs), cores()
    running: dict[Any, tuple[Any, tuple[Any, ...], int]] = {}
    try:
        while waiting or running:
            while waiting and free:
                job, core = waiting.pop(0), free.pop(0)
                here, there = start.Pipe(duplex=False)
                process = start.Process(target=_alone, args=(there, core, work, job), daemon=True)
                process.start()
                there.close()  # so that its end is seen here
                running[here] = (process, job, core)
            ready = wait(list(running))
            for ended in [connection for connection in running if connection in ready]:
                process, job, core = running.pop(ended)
                try:
                    result = ended.recv()
                except EOFError:
                    result = None
                process.join()
                free.append(core)
                yield job, Died(process.exitcode) if result is None else result
    finally:
        for process, _, _ in running.values():
            process.terminate()
        for process, _, _ in running.values():
            process.join(PATIENCE)
            process.kill()


class Died(int):
    """Exit code of a process that gave no result; the negative number of a signal."""


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _alone(result: Connection, core: int, work: Callable[..., Any], job: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle; it then ends this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # cleaning up on the way
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    result.send(work(*job))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
