"""The one name for what functions on the host take: numbers in any container that numpy reads."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class SupportsArray(Protocol):
    """numpy and JAX arrays, numpy scalars, pandas columns."""

    def __array__(self) -> np.ndarray: ...


Numbers = float | SupportsArray | Sequence[float] | Sequence[Sequence[float]]
