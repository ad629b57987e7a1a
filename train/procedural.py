"""Images made by rule, for `--data procedural`: strokes and textures that differ by class, in the shapes of the real sets.

Only uniform draws and plain sums and products, so the images are the same bytes on every machine.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

CORNERS, POINTS = 6, 160  # of a stroke: what it is drawn from, and where the pen is set down


def generator(name: str, seed: int) -> np.random.Generator:
    """The numbers of one set, independent of those of other sets and seeds."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *name.encode()])))


def strokes(
    rng: np.random.Generator, labels: Int[np.ndarray, " image"], side: int, pen: int
) -> Bool[np.ndarray, "image side side"]:
    """One curved line an image: its class gives the corners, each image moves, shears and bends them.

    A quadratic B-spline through CORNERS points, in a square of `side` pixels, drawn with a round pen of radius `pen`.
    """
    n = len(labels)
    classes = rng.uniform(-0.32, 0.32, (labels.max() + 1, CORNERS, 2))
    corners = classes[labels] + rng.uniform(-0.08, 0.08, (n, CORNERS, 2))
    turn, shift = rng.uniform(-0.2, 0.2, (n, 1, 4)), rng.uniform(-0.06, 0.06, (n, 1, 2))
    x, y = corners[..., 0], corners[..., 1]
    x, y = x + turn[..., 0] * x + turn[..., 1] * y, y + turn[..., 2] * x + turn[..., 3] * y
    at = np.stack([spline(x) + shift[..., 0], spline(y) + shift[..., 1]], -1) + 0.5
    column, row = np.moveaxis((at * side).astype(int), -1, 0)
    ink, image = np.zeros((n, side, side), bool), np.arange(n)[:, None]
    for down in range(-pen, pen + 1):
        for right in range(-pen, pen + 1):
            if down * down + right * right <= pen * pen:
                ink[image, np.clip(row + down, 0, side - 1), np.clip(column + right, 0, side - 1)] = True
    return ink


def spline(corners: Float[np.ndarray, "image corner"]) -> Float[np.ndarray, "image point"]:
    """One coordinate of a uniform quadratic B-spline: (1-t)^2/2 a + (1/2 + t - t^2) b + t^2/2 c on each three corners."""
    place = np.arange(POINTS) * ((CORNERS - 2) / POINTS)
    first, t = place.astype(int), place % 1
    weights = ((1 - t) * (1 - t) / 2, 0.5 + t - t * t, t * t / 2)
    return sum((weight * corners[:, first + i] for i, weight in enumerate(weights)), np.zeros(1))


def textures(rng: np.random.Generator, labels: Int[np.ndarray, " image"]) -> UInt8[np.ndarray, "image 32 32 3"]:
    """Smooth colours: a coarse grid that the class gives, refined by midpoints with less and less noise.

    The noise halves as the grid doubles, so power falls with frequency much as it does in photographs.
    """
    n, size = len(labels), 5
    grid = rng.random((labels.max() + 1, size, size, 3), np.float32)[labels] - 0.5
    grid += rng.random((n, size, size, 3), np.float32) - 0.5
    for scale in (0.5, 0.25, 0.125):
        for axis in (1, 2):
            grid = refined(grid, axis)
        grid += scale * (rng.random(grid.shape, np.float32) - 0.5)
    # every value lies in +-(0.5 + 0.5 + 0.25 + 0.125 + 0.0625)
    return ((grid[:, :32, :32] / 1.4375 + 1) * 127.5).astype(np.uint8)


def refined(grid: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
    """The grid with the midpoint put between each two neighbours on an axis: m points become 2m - 1."""
    grid = np.moveaxis(grid, axis, 0)
    out = np.empty((2 * len(grid) - 1, *grid.shape[1:]), grid.dtype)
    out[::2], out[1::2] = grid, (grid[:-1] + grid[1:]) * np.float32(0.5)
    return np.moveaxis(out, 0, axis)
