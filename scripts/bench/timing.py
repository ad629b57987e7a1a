"""Several ways of doing one thing, timed turn by turn."""

import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

TURN = 0.005  # seconds that a turn takes at least, or else the clock and cold caches are what is timed


def in_turns(functions: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median seconds of a call of each, warm, taking turns so that whatever else the machine does slows all."""
    calls = []
    for function in functions:
        function()
        calls.append(min(100, math.ceil(TURN / max(_seconds(function, 1), 1e-9))))
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken, often in zip(functions, times, calls, strict=True):
            taken.append(_seconds(function, often) / often)
    return [median(taken) for taken in times]


def _seconds(function: Callable[[], Any], calls: int) -> float:
    begun = time.perf_counter()
    for _ in range(calls):
        function()
    return time.perf_counter() - begun
