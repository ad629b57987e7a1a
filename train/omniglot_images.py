"""Omniglot's drawings as small grey images: shrunk, split by drawing, moved about, standardised. On the host, in numpy."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mirage_jax.errors import InputError
from train.data import SIDE, Drawings

PIXELS = 28  # a side of the small images
DRAWN = 20  # drawings of a character, each by another person
TRAIN = 15  # of them; the other 5 are held out
TURN, SCALE, SHIFT = 15.0, (0.85, 1.15), 2.0  # of a variant: degrees either way, factor, pixels either way


class Sheets(NamedTuple):
    """Images of some characters, (ink - mean) / sd with both of the training drawings."""

    train: Float[np.ndarray, "class variant 28 28"]  # each training drawing and its variants
    test: Float[np.ndarray, "class 5 28 28"]  # drawings held out, as they are
    classes: list[str]  # ALPHABET/characterNN


def sheets(drawings: Drawings, classes: int | None, least: int, variants: int, rng: np.random.Generator) -> Sheets:
    """Images of so many characters of the background set (None: all, at least `least`), to train on with so many variants.

    Characters, the split of their drawings and the variants are drawn from `rng`, in this order.

    Raises:
        InputError: there are not so many characters with 20 drawings.
    """
    whole = np.flatnonzero(drawings.background & (np.bincount(drawings.labels) == DRAWN))
    needed = least if classes is None else classes
    if len(whole) < needed:
        raise InputError(
            f"expected at least {needed} characters of {DRAWN} drawings in Omniglot's background set, got {len(whole)}"
        )
    count = len(whole) if classes is None else classes
    chosen = np.sort(rng.permutation(whole)[:count])
    at = np.stack([rng.permutation(np.flatnonzero(drawings.labels == label)) for label in chosen])
    small = shrunk(drawings.images[at.ravel()]).reshape(count, DRAWN, PIXELS, PIXELS)
    train, test = small[:, :TRAIN], small[:, TRAIN:]
    mean, sd = train.mean(), train.std()
    moved = [train, *(varied(rng, train) for _ in range(variants))]
    grey = [((images - mean) / sd).astype(np.float32) for images in moved]
    test = ((test - mean) / sd).astype(np.float32)
    return Sheets(np.concatenate(grey, axis=1), test, [str(name) for name in drawings.classes[chosen]])


def shrunk(ink: np.ndarray) -> Float[np.ndarray, "image 28 28"]:
    """Share of ink in each of 28 x 28 equal areas of the 105 x 105 pixels, in [0, 1]: counts of 1/225 of an area, so exact."""
    edges = np.arange(PIXELS + 1) * SIDE  # in 1/28 pixel, as are the pixels' own
    low, high = np.arange(SIDE) * PIXELS, np.arange(1, SIDE + 1) * PIXELS
    shared = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
    weight = np.maximum(shared, 0).astype(np.float32) / 7  # 15 in a row; 105 / 28 = 15 / 4
    return (weight @ ink.astype(np.float32) @ weight.T).astype(np.float64) / 225


def varied(rng: np.random.Generator, images: Float[np.ndarray, "*batch n n"]) -> Float[np.ndarray, "*batch n n"]:
    """Each image turned, scaled and shifted by amounts of its own, uniform within TURN, SCALE and SHIFT."""
    shape = images.shape[:-2]
    angle = np.radians(rng.uniform(-TURN, TURN, shape))
    return affine(images, angle, rng.uniform(*SCALE, shape), rng.uniform(-SHIFT, SHIFT, (*shape, 2)))


def affine(
    images: Float[np.ndarray, "*batch n n"],
    angle: Float[np.ndarray, "*batch"],
    scale: Float[np.ndarray, "*batch"],
    shift: Float[np.ndarray, "*batch 2"],
) -> Float[np.ndarray, "*batch n n"]:
    """Images turned about their centre, scaled, then shifted; read bilinearly, with no ink beyond the edge.

    Args:
        images: [row, column].
        angle: radians; a positive one turns the column axis towards the row axis, clockwise as images are shown.
        scale: above 1 enlarges.
        shift: pixels, (row, column).
    """
    n = images.shape[-1]
    place = np.arange(n) - (n - 1) / 2
    # the place an output pixel comes from: shifted, turned and scaled back
    row = place[:, None] - shift[..., 0, None, None]
    column = place - shift[..., 1, None, None]
    cos, sin = ((f(angle) / scale)[..., None, None] for f in (np.cos, np.sin))
    row, column = cos * row - sin * column, sin * row + cos * column
    # one empty pixel before the image and two behind: whatever lies further out reads from those
    framed = np.pad(images, [(0, 0)] * (images.ndim - 2) + [(1, 2)] * 2)
    row, column = (np.clip(x + (n - 1) / 2 + 1, 0, n + 1) for x in (row, column))
    up, left = row.astype(int), column.astype(int)
    down, right = row - up, column - left
    flat = framed.reshape(*framed.shape[:-2], -1)
    at = (up * (n + 3) + left).reshape(*flat.shape[:-1], -1)

    def read(step: int) -> np.ndarray:
        return np.take_along_axis(flat, at + step, -1).reshape(images.shape)

    above = (1 - right) * read(0) + right * read(1)
    below = (1 - right) * read(n + 3) + right * read(n + 4)
    return (1 - down) * above + down * below
