"""Several ways of doing one thing, timed turn by turn."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any


def in_turns(functions: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median seconds of each, warm, taking turns so that whatever else the machine does slows all."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            begun = time.perf_counter()
            function()
            taken.append(time.perf_counter() - begun)
    return [median(taken) for taken in times]
