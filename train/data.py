"""Data sets of the trained families, as arrays."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

TRAIN = 1297  # of the 1,797 digits; the other 500 are held out


class Digits(NamedTuple):
    """The bundled digits, split and standardised; labels are the digits 0 to 9."""

    train_images: Float[np.ndarray, "train 8 8"]
    train_labels: Int[np.ndarray, " train"]
    test_images: Float[np.ndarray, "test 8 8"]
    test_labels: Int[np.ndarray, " test"]


def digits() -> Digits:
    """scikit-learn's 1,797 grey 8x8 images, (x - mean) / sd with both of the training images; nothing is downloaded.

    The split is fixed: the first 1,297 places of `numpy.random.default_rng(0).permutation(1797)` train, the rest test.
    """
    from sklearn.datasets import load_digits  # takes seconds to import

    found: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    images, labels = found.images[order], found.target[order].astype(np.int32)
    # pixels are whole numbers, so these sums are exact and the arrays are the same bytes on every machine
    mean = images[:TRAIN].mean()
    sd = np.sqrt(np.square(images[:TRAIN]).mean() - mean**2)
    images = ((images - mean) / sd).astype(np.float32)
    return Digits(images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:])


def digest(data: Digits) -> str:
    """SHA-256 of the arrays' names, types, shapes and bytes, in hexadecimal."""
    whole = hashlib.sha256()
    for name, array in data._asdict().items():
        whole.update(f"{name} {array.dtype.str} {array.shape}".encode())
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()
