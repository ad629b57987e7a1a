"""Families of models: where on the axis of scale they stand. Sizes in parameters, ascending."""

from collections.abc import Iterator

import numpy as np

RANGE = (1e7, 1e12)  # of the smallest and the largest model
PUBLISHED = (350e6, 1.3e9, 6.7e9, 175e9)  # the paper's four models


def evenly(models: int) -> np.ndarray:
    """So many models over the whole range, evenly spaced in log N."""
    return np.geomspace(*RANGE, models)


def few_large(small: int, boundary: float, large: int) -> np.ndarray:
    """Many small models up to a boundary and few large ones beyond, both evenly spaced in log N; the largest is RANGE[1]."""
    return np.concatenate([np.geomspace(RANGE[0], boundary, small), np.geomspace(boundary, RANGE[1], large + 1)[1:]])


def anywhere(draw: np.random.Generator, families: int, models: int) -> np.ndarray:
    """Families whose sizes lie anywhere in the range, uniform in log N: [families, models]."""
    low, high = np.log(RANGE)
    return np.exp(np.sort(draw.uniform(low, high, (families, models))))


def designs(
    models: tuple[int, ...], whole: int, small: int, boundary: float, large: tuple[int, ...]
) -> Iterator[tuple[str, int, np.ndarray]]:
    """(design, its number, sizes) of the families that are compared.

    even: so many models. few_large: so many above the boundary. dropped: so many of the largest left out of the whole family.
    published: the paper's.
    """
    for number in models:
        yield "even", number, evenly(number)
    for number in large:
        yield "few_large", number, few_large(small, boundary, number)
    for number in range(whole - 2):
        yield "dropped", number, evenly(whole)[: whole - number]
    yield "published", len(PUBLISHED), np.array(PUBLISHED)
