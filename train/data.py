"""Data sets of the trained families, as arrays.

Images come from the published files or from a directory that tensorflow-datasets prepared (`mirage_jax.published` finds
either), or are made by rule where that is asked for. Files are data from elsewhere: what does not have exactly the form of
its kind is refused in one line that names it.
"""

import hashlib
import io
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Shaped, UInt8

from mirage_jax import archives, files, published
from mirage_jax.errors import InputError
from train import procedural as rule

TRAIN = 1297  # of the 1,797 digits; the other 500 are held out
SIDE = 105  # pixels of an Omniglot drawing
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "omniglot": "Omniglot"}
Source = Literal["published", "any", "procedural"]


class Digits(NamedTuple):
    """The bundled digits, split and standardised; labels are the digits 0 to 9."""

    train_images: Float[np.ndarray, "train 8 8"]
    train_labels: Int[np.ndarray, " train"]
    test_images: Float[np.ndarray, "test 8 8"]
    test_labels: Int[np.ndarray, " test"]


class Images(NamedTuple):
    """Grey (MNIST, 28x28) or colour (CIFAR, 32x32x3) images with the published split; labels count from 0."""

    train_images: UInt8[np.ndarray, "train height width *colour"]
    train_labels: Int32[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test height width *colour"]
    test_labels: Int32[np.ndarray, " test"]


class Drawings(NamedTuple):
    """Omniglot: characters drawn once each by several people. Classes stand in the order of their names."""

    images: Bool[np.ndarray, "drawing 105 105"]  # true where there is ink
    labels: Int32[np.ndarray, " drawing"]  # place in `classes`
    drawers: Int32[
        np.ndarray, " drawing"
    ]  # who drew it, from 0; from tensorflow-datasets a running number in the class
    classes: Shaped[np.ndarray, " class"]  # ALPHABET/characterNN
    background: Bool[np.ndarray, " class"]  # of the background set, not of the evaluation set


def load(name: str, folder: Path | None, data: Source = "published", seed: int = 0) -> Images | Drawings:
    """One image set: mnist, cifar10, cifar100 or omniglot, from where `published.locate` found it.

    A pinned file with other content is refused, unless `data` is any. Procedural images come from no folder: theirs is None.
    """
    if name not in TITLES:
        raise InputError(f"unknown image set {name}; known: {', '.join(TITLES)}")
    if (folder is None) != (data == "procedural") or data not in get_args(Source):
        raise InputError(
            f"data: expected published or any and a folder, or procedural and none; got {data!r} and {folder}"
        )
    if folder is None:
        return procedural(name, seed)
    if published.is_prepared(folder):
        return prepared(name, folder)
    if name == "mnist":
        return mnist(folder, data == "published")
    return omniglot(folder, data == "published") if name == "omniglot" else cifar(folder, name)


def named(name: str, folder: Path | None, data: Images | Drawings) -> str:
    """What was loaded, for tables and figures; whether it is what was published is judged by the files in the folder."""
    if isinstance(data, Drawings):
        count = f"{len(data.images)} drawings of {len(data.classes)} characters"
    else:
        count = f"{len(data.train_images)}+{len(data.test_images)} images"
    if folder is None:
        return f"procedural images in the form of {TITLES[name]}, {count}"
    if published.is_prepared(folder):
        return f"{TITLES[name]} from tensorflow-datasets {folder.name}, {count}"
    found = published.hashes(name, folder)
    whole = name not in ("cifar10", "cifar100") or count == "50000+10000 images"
    if published.changed(name, found) or not whole:
        return f"{TITLES[name]}, {count} (not the published files)"
    pinned = set(found) <= set(published.DATASETS[name].hashes)
    return f"{TITLES[name]}, {count} ({'published files' if pinned else 'not pinned'})"


def task(name: str, data: Source) -> str:
    """The table's task: the set's name where the files are the published ones, else what they are too."""
    return name if data == "published" else f"{name}_{data}"


def digest(data: NamedTuple) -> str:
    """SHA-256 of the arrays' names, types, shapes and bytes, in hexadecimal."""
    whole = hashlib.sha256()
    for name, array in data._asdict().items():
        whole.update(f"{name} {array.dtype.str} {array.shape}".encode())
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


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


def mnist(folder: Path, check: bool = True) -> Images:
    """MNIST from its four idx files, plain or gzip; `check` refuses content that is not the published one."""
    arrays = {}
    for known, path in published.whole("mnist", folder).items():
        content = archives.gunzip(path)
        if check:
            _check("mnist", known, path, content)
        arrays[known] = idx(content, path, 3 if "images" in known else 1)
    parts = []
    for part in ("train", "t10k"):
        images, labels = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
        if images.shape[1:] != (28, 28) or len(images) != len(labels):
            raise InputError(
                f"{folder}: expected as many images of 28x28 as labels in {part}, got images {images.shape} and "
                f"{len(labels)} labels"
            )
        parts += [images, _classes(labels, 10, folder)]
    return Images(*parts)


def idx(content: bytes, path: Path, axes: int) -> UInt8[np.ndarray, "..."]:
    """Bytes of an idx file as an array: 0, 0, 8 for unsigned bytes, the number of axes, each length (4 bytes), the items.

    References:
        LeCun, Cortes, Burges, "The MNIST database": the idx format.
    """
    start = 4 + 4 * axes
    if len(content) < start or content[:4] != bytes([0, 0, 8, axes]):
        raise InputError(f"{path}: expected an idx file of bytes with {axes} axes, got one that begins {content[:4]!r}")
    shape = struct.unpack_from(f">{axes}I", content, 4)
    size = start + int(np.prod(shape, dtype=object))
    if len(content) != size:
        what = "is cut short" if len(content) < size else "goes on after its end"
        raise InputError(f"{path} {what}: its header says {shape}, {size:,} bytes, got {len(content):,}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def cifar(folder: Path, name: str = "cifar10") -> Images:
    """CIFAR-10 or CIFAR-100 from the binary version: its files, the folder they come in, or the archive.

    Records are the class, in CIFAR-100 after the coarse class (20, left out), and 32x32 pixels of red, green, blue. Any
    number of records is read: there is no SHA-256 to hold them against.
    """
    found = published.whole(name, folder)
    ((first, path), *_) = found.items()
    if first.endswith(".tar.gz"):
        inside = {PurePosixPath(member).name: content for member, content in archives.untar(path)}
        contents = {member: content for member, content in inside.items() if member.endswith(".bin")}
    else:
        contents = {path.name: archives.gunzip(path) for path in found.values()}
    parts = []
    for part in (r"data_batch_[1-5]\.bin|train\.bin", r"test_batch\.bin|test\.bin"):
        batches = [content for member, content in sorted(contents.items()) if re.fullmatch(part, member)]
        if not batches:
            raise InputError(f"{path}: expected in it the files of {TITLES[name]}'s binary version")
        parts += records(batches, folder if len(found) > 1 else path, name)
    return Images(*parts)


def records(
    batches: list[bytes], path: Path, name: str
) -> tuple[UInt8[np.ndarray, "image 32 32 3"], Int32[np.ndarray, " image"]]:
    """Images and classes of CIFAR's binary batches."""
    marks, classes = (1, 10) if name == "cifar10" else (2, 100)
    size = marks + 3 * 32 * 32
    for batch in batches:
        if not batch or len(batch) % size:
            raise InputError(
                f"{path}: expected batches of whole records, {size:,} bytes each, got one of {len(batch):,}"
            )
    table = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, size)
    if marks == 2:
        _classes(table[:, 0], 20, path)
    pixels = table[:, marks:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(np.moveaxis(pixels, 1, -1)), _classes(table[:, marks - 1], classes, path)


def omniglot(folder: Path, check: bool = True) -> Drawings:
    """Omniglot from its zips or the folders they unpack to; `check` refuses a pinned zip with other content."""
    drawn: dict[tuple[str, int], tuple[bool, bytes]] = {}
    for known, path in published.whole("omniglot", folder).items():
        if check and path.is_file():
            _check("omniglot", known, path)
        background = known.startswith("images_background")
        for member, content in archives.unzip(path) if path.is_file() else _within(path):
            # SET/ALPHABET/characterNN/CLASS_DRAWER.png
            named = re.fullmatch(r"(?:[\w-]+/)?([\w()-]+/character\d\d)/\d{4}_(\d\d)\.png", member, re.ASCII)
            if not named:
                raise InputError(f"{path}: expected ALPHABET/characterNN/NNNN_NN.png, got {member!r}")
            drawing = (named[1], int(named[2]) - 1)
            if drawn.setdefault(drawing, (background, content)) != (background, content):
                raise InputError(f"{path}: {member!r} stands in another archive too, with another content")
    if not drawn:
        raise InputError(f"{folder}: expected drawings, got none")
    order = sorted(drawn)
    images = np.stack(
        [ink(drawn[drawing][1], f"{folder}: {drawing[0]}, drawing {drawing[1] + 1}") for drawing in order]
    )
    classes = {alphabet: drawn[alphabet, drawer][0] for alphabet, drawer in order}
    return _drawings(images, [name for name, _ in order], [drawer for _, drawer in order], classes)


def _drawings(images: Any, names: list[str], drawers: list[int], background: Mapping[str, bool]) -> Drawings:
    classes, labels = np.unique(np.array(names), return_inverse=True)
    of = np.array([background[str(name)] for name in classes])
    return Drawings(images, labels.astype(np.int32), np.array(drawers, np.int32), classes, of)


def _within(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files under a folder by their names in it; links are refused, since they may lead anywhere."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise InputError(f"{path}: expected plain files, got a link")
        if path.is_file() and not archives.litter(path.name):
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def ink(content: bytes, where: str) -> Bool[np.ndarray, "105 105"]:
    """Where a PNG of 105x105 is dark. Its size is read before it is decoded: one that unpacks to more is refused."""
    from PIL import Image

    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        raise InputError(f"{where}: expected a PNG image, got one that begins {content[:8]!r}")
    if (size := struct.unpack(">2I", content[16:24].ljust(8, b"\0"))) != (SIDE, SIDE):
        raise InputError(f"{where}: expected {SIDE}x{SIDE} pixels, got {size[0]}x{size[1]}")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            return np.asarray(image.convert("L")) < 128
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise InputError(f"{where} is damaged: {error}") from None


def prepared(name: str, folder: Path) -> Images | Drawings:
    """An image set from a directory that tensorflow-datasets prepared as array_record, in the order stored there."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(f"{folder} is read by tensorflow-datasets: pip install mirage_jax[data] ({error})") from None
    from absl import logging

    said = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # it recommends OpenCV
    try:
        _check_features(files.read_json(folder / "features.json"), folder)
        builder: Any = tfds.builder_from_directory(folder)
        if name == "omniglot":
            return _prepared_drawings(builder, folder)
        parts = []
        for split in ("train", "test"):
            images, labels = zip(
                *((np.asarray(e["image"]), e["label"]) for e in _examples(builder, split)), strict=True
            )
            shape = (28, 28, 1) if name == "mnist" else (32, 32, 3)
            if images[0].shape != shape:
                raise InputError(f"{folder}: expected images of {shape}, got {images[0].shape}")
            stacked = np.stack(images)
            classes = _classes(np.array(labels), 100 if name == "cifar100" else 10, folder)
            parts += [stacked[..., 0] if name == "mnist" else stacked, classes]
        return Images(*parts)
    except InputError:
        raise
    except Exception as error:  # its readers' errors are of many kinds
        raise InputError(
            f"{folder} could not be read by tensorflow-datasets: {type(error).__name__}: {error}"
        ) from error
    finally:
        logging.set_verbosity(said)


def _check_features(described: Any, folder: Path) -> None:
    """Refuse a features.json that names classes of other packages: tensorflow-datasets would import them."""
    if isinstance(described, dict):
        for key, value in described.items():
            plain = key.replace("_", "").lower()  # in its JSON, names may be written in two ways
            named = plain in ("pythonclassname", "type") and isinstance(value, str)
            if plain == "jsonfeature" or (named and not value.startswith("tensorflow_datasets.core.features.")):
                raise InputError(f"{folder / 'features.json'}: expected features of tensorflow-datasets, got {value!r}")
    if isinstance(described, dict | list):
        for value in described.values() if isinstance(described, dict) else described:
            _check_features(value, folder)


def _examples(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    source = builder.as_data_source(split=split)
    return (source[i] for i in range(len(source)))


def _prepared_drawings(builder: Any, folder: Path) -> Drawings:
    """Its `train` is the background set and `test` the evaluation set; paper is white. Its label reads ALPHABET_number."""
    images, names, drawers, background = [], [], [], {}
    drawn = Counter()
    for split in [split for split in ("train", "test") if split in builder.info.splits]:
        for example in _examples(builder, split):
            label = builder.info.features["label"].int2str(int(example["label"]))
            found = re.fullmatch(r"(.+)_(\d+)", label)
            name = f"{found[1]}/character{int(found[2]) + 1:02d}" if found else label
            if example["image"].shape != (SIDE, SIDE, 3):
                raise InputError(f"{folder}: expected images of {(SIDE, SIDE, 3)}, got {example['image'].shape}")
            images.append(example["image"][..., 0] < 128)
            names.append(name)
            drawers.append(drawn[name])
            drawn[name] += 1
            background[name] = split == "train"
    return _drawings(np.stack(images), names, drawers, background)


def procedural(name: str, seed: int) -> Images | Drawings:
    """Images made by rule in the form of a real set, a few thousand of them; the same seed gives the same bytes."""
    rng = rule.generator(name, seed)
    if name == "omniglot":
        labels = np.repeat(np.arange(50, dtype=np.int32), 20)
        classes = [f"rule{i // 10}/character{i % 10 + 1:02d}" for i in labels]
        return _drawings(
            rule.strokes(rng, labels, SIDE, 1), classes, list(range(20)) * 50, dict.fromkeys(classes, True)
        )
    labels = rng.permutation(2500).astype(np.int32) % (100 if name == "cifar100" else 10)
    if name == "mnist":  # each pixel the mean of 3x3
        fine = rule.strokes(rng, labels, 84, 3).reshape(-1, 28, 3, 28, 3)
        images = (fine.sum((2, 4)) * 255 // 9).astype(np.uint8)
    else:
        images = rule.textures(rng, labels)
    return Images(images[:2000], labels[:2000], images[2000:], labels[2000:])


def _check(name: str, known: str, path: Path, content: bytes | None = None) -> None:
    wanted, found = published.DATASETS[name].hashes.get(known), files.sha256(path if content is None else content)
    if wanted not in (None, found):
        raise InputError(
            f"{path}: expected the published content, SHA-256 {wanted}, got {found}; `--data any` reads it all the same"
        )


def _classes(labels: np.ndarray, n: int, path: Path) -> Int32[np.ndarray, " item"]:
    if len(labels) == 0 or labels.max() >= n:
        raise InputError(f"{path}: expected classes 0 to {n - 1}, got {labels.max() if len(labels) else 'no images'}")
    return labels.astype(np.int32)
