"""Image sets: the real files, every way in which a file can be wrong, tensorflow-datasets, and the sets made by rule."""

import gzip
import io
import json
import random
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import alarms
import numpy as np
import pytest

from mirage_jax import archives, errors, files, published
from mirage_jax.errors import InputError
from train import data, procedural

MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
BATCHES = "cifar-10-batches-bin"
GREEK = "images_background_small1/Greek/character01/0394_01.png"


def same(a, b):
    assert type(a) is type(b)
    for name, array in a._asdict().items():
        np.testing.assert_array_equal(array, getattr(b, name), err_msg=name)
        assert array.dtype == getattr(b, name).dtype, name


# --- small files of each kind, by hand ---


def idx(array, kind=8):
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def digits(n=3, of=5):
    """Content of the four idx files: n images and labels to train, 2 to test."""
    draw = np.random.default_rng(of)
    parts = [draw.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10]
    parts += [draw.integers(0, 256, (2, 28, 28), np.uint8), np.array([9, 0], np.uint8)]
    return dict(zip(MNIST, parts, strict=True))


def write(folder, contents):
    for name, content in contents.items():
        files.write(folder / name, content)
    return folder


def mnist(folder, changed=()):
    contents = {name: idx(array) for name, array in digits().items()} | dict(changed)
    return write(folder, {f"{name}.gz": gzip.compress(content, 1) for name, content in contents.items()})


def batch(n, marks=1, label=3, of=0):
    images = np.random.default_rng(of).integers(0, 256, (n, 3, 32, 32), np.uint8)
    return images, b"".join(bytes([7] * (marks - 1) + [label]) + image.tobytes() for image in images)


def tar(path, members, mode="w:gz"):
    """A tar archive of (name or TarInfo, content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            if isinstance(member, str):
                member = tarfile.TarInfo(member)
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path.parent


def odd(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def png(ink, size=None):
    """A grey PNG of 1 bit a pixel, white paper, written out by hand: header, one deflated block of rows, end."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + np.packbits(~row).tobytes() for row in ink)
    width, height = size or (ink.shape[1], ink.shape[0])
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def drawing(of=0):
    return np.random.default_rng(of).random((105, 105)) < 0.1


def members(number=1, of=0):
    """One character drawn twice, and another of another alphabet."""
    top = f"images_background_small{number}"
    names = [f"{top}/Greek/character01/0394_{i:02d}.png" for i in (2, 1)] + [f"{top}/N_Ko/character02/0805_01.png"]
    return {name: png(drawing(of + i)) for i, name in enumerate(names)}


def zipped(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items() if isinstance(contents, dict) else contents:
            archive.writestr(name, content)
    return path.parent


def omniglot(folder, extra=()):
    zipped(folder / "images_background_small1.zip", [*members().items(), *extra])
    return zipped(folder / "images_background_small2.zip", {"images_background_small2/": b""})


@pytest.fixture
def places(tmp_path, monkeypatch):
    """No data anywhere but under tmp_path."""
    monkeypatch.setattr(published, "cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MIRAGE_DATA", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dir").mkdir()
    return tmp_path


# --- the real files ---


def test_mnist_is_mnist(data_dir):
    folder = published.locate("mnist", data_dir)
    found = data.load("mnist", folder)
    assert found.train_images.shape == (60000, 28, 28) and found.test_images.shape == (10000, 28, 28)
    # per digit, as tables of the data set give them
    assert np.bincount(found.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(found.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # the mean and standard deviation by which everyone standardises it
    assert (round(found.train_images.mean() / 255, 4), round(found.train_images.std() / 255, 4)) == (0.1307, 0.3081)
    assert data.digest(found) == "07373b8af397da0459c79e6db748e298835e3e24c2325fa94993fde799ab9bde"
    assert data.named("mnist", folder, found) == "MNIST, 60000+10000 images (published files)"


def test_the_copy_of_cifar_is_read_and_not_called_the_published_one(data_dir):
    folder = published.locate("cifar10", data_dir)
    found = data.load("cifar10", folder)
    assert found.train_images.shape == (4000, 32, 32, 3) and found.test_images.shape == (1000, 32, 32, 3)
    # natural images, red first: the means by channel that everyone subtracts are .491 .482 .447, sd about .25; the mean
    # of 4,000 images, whose own means differ with an sd of about .12, has a standard error of .002
    means = found.train_images.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=alarms.sigmas(3) * 0.12 / np.sqrt(4000))
    assert sorted(set(found.train_labels)) == list(range(10))
    # neighbours along a row and down a column are alike: the planes were cut in the right order
    image = found.train_images.astype(float)
    for axis in (1, 2):
        step = np.abs(np.diff(image, axis=axis)).mean()
        assert step < np.abs(image - np.roll(image, 16, axis)).mean() / 3
    assert data.named("cifar10", folder, found) == "CIFAR-10, 4000+1000 images (not the published files)"
    assert list(published.hashes("cifar10", folder)) == ["cifar-10-binary.tar.gz"]


def test_omniglot_is_two_small_sets_without_their_overlap(data_dir):
    folder = published.locate("omniglot", data_dir)
    found = data.load("omniglot", folder)
    # 2,720 and 3,120 drawings, Greek and Latin in both: (24 + 26) * 20 fewer together
    assert found.images.shape == (2720 + 3120 - 50 * 20, 105, 105)
    assert len(found.classes) == 242 and len({name.split("/")[0] for name in found.classes}) == 8
    assert (np.bincount(found.labels) == 20).all() and found.background.all()
    assert sum(str(name).startswith("Greek/") for name in found.classes) == 24
    assert sorted(set(found.drawers)) == list(range(20))
    assert 0.02 < found.images.mean() < 0.1  # ink, not paper
    assert data.named("omniglot", folder, found) == "Omniglot, 4840 drawings of 242 characters (published files)"


def test_the_pins_are_those_of_tensorflow_datasets():
    import tensorflow_datasets as tfds

    listed = (Path(tfds.__file__).parent / "url_checksums" / "omniglot.txt").read_text()
    pinned = published.DATASETS["omniglot"].hashes
    assert len(pinned) == 2 and all(f"{digest}\t{name}" in listed for name, digest in pinned.items())


# --- forms of the files ---


@pytest.mark.parametrize("form", ["{}", "{}.gz", "dot{}", "dot{}.gz"])
def test_idx_files_may_be_packed_and_dotted(tmp_path, form):
    arrays = digits(n=13)
    for name, array in arrays.items():
        end = form.replace("dot", "").format(name)
        name = end.replace("-idx", ".idx") if "dot" in form else end
        content = idx(array)
        files.write(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    found = data.mnist(tmp_path, check=False)
    for array, read in zip(arrays.values(), found, strict=True):
        np.testing.assert_array_equal(read, array)
    assert found.train_labels.dtype == np.int32
    # the hashes are of the content, so that packing does not matter
    assert published.hashes("mnist", tmp_path) == {name: files.sha256(idx(array)) for name, array in arrays.items()}


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_loose_in_its_folder_and_packed(tmp_path, name):
    marks, label = (1, 9) if name == "cifar10" else (2, 99)
    top, names = (BATCHES, ["data_batch_1", "data_batch_2", "test_batch"])
    if name == "cifar100":
        top, names = "cifar-100-binary", ["train", "test"]
    images, contents = [], {}
    for i, part in enumerate(names):
        pixels, contents[f"{part}.bin"] = batch(i + 2, marks, label, of=i)
        images.append(pixels)
    loose = write(tmp_path / "loose", contents)
    nested = write(tmp_path / "nested", {f"{top}/{part}": content for part, content in contents.items()})
    archive = f"{top.removesuffix('-binary').removesuffix('-batches-bin')}-binary.tar.gz"
    readme = (f"{top}/readme.html", b"<p>")
    packed = tar(
        tmp_path / "packed" / archive, [(f"{top}/{part}", content) for part, content in contents.items()] + [readme]
    )
    found = data.cifar(loose, name)
    same(found, data.cifar(nested, name))
    same(found, data.load(name, packed))
    train = np.concatenate(images[:-1])
    np.testing.assert_array_equal(found.train_images[..., 1], train[:, 1])  # the second plane is green
    np.testing.assert_array_equal(found.test_images[1, 5, 7], images[-1][1, :, 5, 7])
    assert found.train_labels.tolist() == [label] * len(train) and found.test_labels.dtype == np.int32
    assert list(published.hashes(name, nested)) == [
        f"{top}/{part}" for part in contents if part != "data_batch_2.bin"
    ] + [f"{top}/{part}" for part in contents if part == "data_batch_2.bin"]


def test_omniglot_is_read_from_zips_and_from_folders(tmp_path):
    litter = [("__MACOSX/images_background_small1/._Greek", b"\0"), ("images_background_small1/.DS_Store", b"\0")]
    packed = data.omniglot(omniglot(tmp_path / "zips", litter), check=False)
    assert packed.classes.tolist() == ["Greek/character01", "N_Ko/character02"]
    assert packed.labels.tolist() == [0, 0, 1] and packed.drawers.tolist() == [0, 1, 0]
    for image, of in zip(packed.images, (1, 0, 2), strict=True):
        np.testing.assert_array_equal(image, drawing(of))
    loose = write(tmp_path / "loose", members())
    (loose / "images_background_small2").mkdir()
    same(data.omniglot(loose), packed)


def test_the_whole_background_set_goes_before_the_small_ones_and_the_evaluation_set_is_marked(tmp_path):
    folder = omniglot(tmp_path)
    zipped(folder / "images_background.zip", {GREEK.replace("_small1", ""): png(drawing(8))})
    zipped(folder / "images_evaluation.zip", {"images_evaluation/ULOG/character03/1600_20.png": png(drawing(9))})
    found = data.load("omniglot", folder)  # neither is pinned
    assert found.classes.tolist() == ["Greek/character01", "ULOG/character03"]
    assert found.background.tolist() == [True, False] and found.drawers.tolist() == [0, 19]
    np.testing.assert_array_equal(found.images[1], drawing(9))
    assert data.named("omniglot", folder, found) == "Omniglot, 2 drawings of 2 characters (not pinned)"


def test_the_hash_of_a_folder_is_that_of_its_files(tmp_path):
    loose = write(tmp_path, members())
    (loose / "images_background_small2").mkdir()
    before = published.hashes("omniglot", loose)
    assert list(before) == ["images_background_small1/", "images_background_small2/"]
    files.write(loose / "images_background_small1" / ".DS_Store", b"")
    assert published.hashes("omniglot", loose) == before
    files.write(loose / GREEK, png(drawing(7)))
    assert published.hashes("omniglot", loose) != before


# --- pinned content ---


def test_other_content_is_refused_and_read_by_any(tmp_path):
    folder = mnist(tmp_path)
    content = files.sha256(idx(digits()[MNIST[0]]))
    pinned = published.DATASETS["mnist"].hashes[MNIST[0]]
    expected = f"{MNIST[0]}.gz: expected the published content, SHA-256 {pinned}, got {content}; `--data any` reads it"
    with pytest.raises(InputError, match=expected):
        data.load("mnist", folder)
    found = data.load("mnist", folder, "any")
    np.testing.assert_array_equal(found.train_images, digits()[MNIST[0]])
    assert data.named("mnist", folder, found) == "MNIST, 3+2 images (not the published files)"
    assert published.changed("mnist", published.hashes("mnist", folder)) == list(MNIST)


def test_another_zip_is_refused_and_read_by_any(tmp_path):
    folder = omniglot(tmp_path)
    with pytest.raises(InputError, match=r"small1.zip: expected the published content, SHA-256 f38eb80f.*`--data any`"):
        data.load("omniglot", folder)
    assert len(data.load("omniglot", folder, "any").images) == 3


def test_published_packed_or_not_is_the_same(tmp_path, data_dir):
    for path in published.present("mnist", data_dir / "mnist").values():
        (tmp_path / path.name).symlink_to(path)
    labels = tmp_path / f"{MNIST[3]}.gz"
    files.write(tmp_path / MNIST[3], gzip.decompress(labels.read_bytes()))
    labels.unlink()
    assert published.changed("mnist", published.hashes("mnist", tmp_path)) == []
    assert len(data.load("mnist", tmp_path).test_labels) == 10000


# --- what is refused: each in one line that names the file ---

IMAGES, LABELS = idx(digits()[MNIST[0]]), idx(digits()[MNIST[1]])
BAD_IDX = {
    "truncated": ({MNIST[0]: IMAGES[:-1]}, r"images-idx3-ubyte.gz is cut short: its header says \(3, 28, 28\), 2,368"),
    "truncated header": ({MNIST[0]: IMAGES[:15]}, "expected an idx file of bytes with 3 axes"),
    "empty": (
        {MNIST[1]: b""},
        "labels-idx1-ubyte.gz: expected an idx file of bytes with 1 axes, got one that begins b''",
    ),
    "trailing": ({MNIST[1]: LABELS + b"\0"}, "labels-idx1-ubyte.gz goes on after its end: .* 11 bytes, got 12"),
    "magic": ({MNIST[0]: b"\1" + IMAGES[1:]}, r"begins b'\\x01\\x00\\x08\\x03'"),
    "of floats": ({MNIST[0]: idx(digits()[MNIST[0]], kind=13)}, "expected an idx file of bytes"),
    "labels for images": ({MNIST[0]: LABELS}, "with 3 axes"),
    "vast": (
        {MNIST[0]: b"\0\0\x08\x03" + b"\xff" * 12},
        r"is cut short: .* 79,228,162,458,924,105,385,300,197,391 bytes",
    ),
    "fewer labels": (
        {MNIST[1]: idx(np.zeros(2, np.uint8))},
        r"as many images of 28x28 as labels in train, got images \(3",
    ),
    "another size": (
        {MNIST[2]: idx(np.zeros((2, 27, 28), np.uint8))},
        r"in t10k, got images \(2, 27, 28\) and 2 labels",
    ),
    "a class too many": ({MNIST[1]: idx(np.array([0, 9, 10], np.uint8))}, "expected classes 0 to 9, got 10"),
    "no images": (
        {MNIST[0]: idx(np.zeros((0, 28, 28), np.uint8)), MNIST[1]: idx(np.zeros(0, np.uint8))},
        "got no images",
    ),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_bad_idx_files(tmp_path, case):
    changed, message = BAD_IDX[case]
    with pytest.raises(InputError, match=message):
        data.mnist(mnist(tmp_path, changed), check=False)


def test_bad_gzip_files(tmp_path):
    path = mnist(tmp_path) / f"{MNIST[0]}.gz"
    whole = path.read_bytes()
    crc = bytearray(whole)
    crc[-5] ^= 1
    files.write(path, bytes(crc))
    with pytest.raises(InputError, match="images-idx3-ubyte.gz is damaged: CRC check failed"):
        data.mnist(tmp_path, check=False)
    with pytest.raises(InputError, match="images-idx3-ubyte.gz is damaged: CRC check failed"):
        published.hashes("mnist", tmp_path)
    files.write(path, whole[:-20])
    with pytest.raises(InputError, match="is damaged: Compressed file ended"):
        data.mnist(tmp_path, check=False)
    files.write(path, gzip.compress(bytes(3 << 20)))
    with pytest.raises(InputError, match="expected at most .* bytes unpacked, got more"):
        data.mnist(tmp_path, check=False)


PIXELS = batch(2)[1]
GOOD = [(f"{BATCHES}/data_batch_1.bin", PIXELS), (f"{BATCHES}/test_batch.bin", PIXELS)]
BAD_TAR = {
    "up": ("../data_batch_2.bin", PIXELS, "'../data_batch_2.bin' leads out of the archive"),
    "up inside": (f"{BATCHES}/../../x", PIXELS, "leads out of the archive"),
    "absolute": ("/tmp/data_batch_2.bin", PIXELS, "leads out of the archive"),
    "backslash": ("..\\data_batch_2.bin", PIXELS, "leads out of the archive"),
    "drive": ("C:/data_batch_2.bin", PIXELS, "leads out of the archive"),
    "symlink": (odd(f"{BATCHES}/data_batch_2.bin", tarfile.SYMTYPE, "/etc/passwd"), b"", "got .*, a link or a device"),
    "hard link": (odd(f"{BATCHES}/data_batch_2.bin", tarfile.LNKTYPE, GOOD[0][0]), b"", "a link or a device"),
    "fifo": (odd(f"{BATCHES}/data_batch_2.bin", tarfile.FIFOTYPE), b"", "a link or a device"),
    "device": (odd(f"{BATCHES}/data_batch_2.bin", tarfile.CHRTYPE), b"", "a link or a device"),
    "twice": (*GOOD[0], "stands in it twice"),
    "part of a record": (
        f"{BATCHES}/data_batch_2.bin",
        PIXELS[:-1],
        "whole records, 3,073 bytes each, got one of 6,145",
    ),
    "empty batch": (f"{BATCHES}/data_batch_2.bin", b"", "got one of 0"),
    "class": (f"{BATCHES}/data_batch_2.bin", batch(1, label=10)[1], "expected classes 0 to 9, got 10"),
}


@pytest.mark.parametrize("case", BAD_TAR)
def test_bad_tar_archives(tmp_path, case):
    member, content, message = BAD_TAR[case]
    folder = tar(tmp_path / "cifar10" / "cifar-10-binary.tar.gz", [*GOOD, (member, content)])
    with pytest.raises(InputError, match=f"cifar-10-binary.tar.gz: .*{message}"):
        data.cifar(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["cifar10", "cifar-10-binary.tar.gz"]


def test_archives_that_are_none_or_hold_something_else(tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    for content, message in (
        (b"", "damaged, or no tar archive"),
        (b"not a tar" * 100, "damaged, or no tar archive"),
        (gzip.compress(b"not a tar" * 100), "damaged, or no tar archive"),
        (gzip.compress(bytes(10240)), "expected in it the files of CIFAR-10's binary version"),
    ):
        files.write(path, content)
        with pytest.raises(InputError, match=f"cifar-10-binary.tar.gz.*{message}"):
            data.cifar(tmp_path)
    tar(path, GOOD[:1])
    with pytest.raises(InputError, match="expected in it the files of CIFAR-10's binary version"):
        data.cifar(tmp_path)
    tar(path, GOOD, "w")  # only named .gz
    assert len(data.cifar(tmp_path).train_images) == 2
    files.write(path, path.read_bytes()[:-9000])
    with pytest.raises(InputError, match="damaged"):
        data.cifar(tmp_path)


def test_a_coarse_class_too_many(tmp_path):
    record = batch(1, marks=2)[1]
    write(tmp_path, {"train.bin": b"\x14" + record[1:], "test.bin": record})
    with pytest.raises(InputError, match="expected classes 0 to 19, got 20"):
        data.cifar(tmp_path, "cifar100")


def link(name, target):
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member, target


CHARACTER = "images_background_small1/Greek/character02/0395_01.png"
BAD_ZIP = {
    "up": (("images_background_small1/../../0395_01.png", png(drawing())), "leads out of the archive"),
    "absolute": (("/Greek/character02/0395_01.png", png(drawing())), "leads out of the archive"),
    "backslash": (("Greek\\character02\\0395_01.png", png(drawing())), "leads out of the archive"),
    "link": (link(CHARACTER, b"/etc/passwd"), "a link or a device"),
    "another file": (
        ("images_background_small1/run.sh", b"#!"),
        r"expected ALPHABET/characterNN/NNNN_NN.png, got '.*run.sh'",
    ),
    "no drawer": ((CHARACTER.replace("_01", "_xx"), png(drawing())), "expected ALPHABET/characterNN/NNNN_NN.png"),
    "hostile alphabet": ((CHARACTER.replace("Greek", "\x1b[31m\u202e"), png(drawing())), "expected ALPHABET"),
    "no image": (
        (CHARACTER, b"GIF89a" + bytes(99)),
        r"Greek/character02, drawing 1: expected a PNG image, .* b'GIF89a",
    ),
    "short image": ((CHARACTER, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0"), "expected 105x105 pixels, got"),
    "vast image": ((CHARACTER, png(drawing(), (60000, 60000))), "expected 105x105 pixels, got 60000x60000"),
    "half an image": ((CHARACTER, png(drawing())[:400]), "Greek/character02, drawing 1 is damaged"),
    "damaged image": ((CHARACTER, png(drawing()).replace(b"IDAT", b"IDAX")), "Greek/character02, drawing 1 is damaged"),
    "another drawing": ((GREEK.replace("small1", "small9"), png(drawing(5))), "stands in another archive too"),
    "bomb": (("images_background_small1/Greek/character09/0300_01.png", bytes(4 << 20)), "would unpack to .*: refused"),
}


@pytest.mark.parametrize("case", BAD_ZIP)
def test_bad_zip_archives(tmp_path, case):
    extra, message = BAD_ZIP[case]
    folder = omniglot(tmp_path, [extra])
    with pytest.raises(InputError, match=f"{tmp_path}.*{message}"):
        data.omniglot(folder, check=False)
    assert len(list(tmp_path.rglob("*"))) == 2


def test_zips_that_are_none_encrypted_or_hold_a_name_twice(tmp_path):
    folder = omniglot(tmp_path)
    path = folder / "images_background_small1.zip"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 1
    encrypted = bytearray(whole)
    encrypted[whole.index(b"PK\1\2") + 8] |= 1
    for content, message in (
        (b"", "damaged, or no zip archive"),
        (whole[:-30], "damaged, or no zip archive"),
        (bytes(flipped), "damaged, or no zip archive: .*(CRC|decompressing)"),
        (bytes(encrypted), "is encrypted"),
    ):
        files.write(path, content)
        with pytest.raises(InputError, match=f"small1.zip.*{message}"):
            data.omniglot(folder, check=False)
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(path, [(GREEK, png(drawing())), (GREEK, png(drawing(1)))])
    with pytest.raises(InputError, match="stands in it twice"):
        data.omniglot(folder, check=False)
    zipped(path, {"images_background_small1/": b""})
    with pytest.raises(InputError, match="expected drawings, got none"):
        data.omniglot(folder, check=False)


def test_archives_of_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS", 2)
    with pytest.raises(InputError, match="expected at most 2 members, got 3"):
        data.omniglot(omniglot(tmp_path), check=False)
    tar(tmp_path / "cifar-10-binary.tar.gz", [*GOOD, ("more", b"")])
    with pytest.raises(InputError, match="expected at most 2 members, got more"):
        data.cifar(tmp_path)


def test_a_link_in_an_unpacked_folder_is_refused(tmp_path):
    loose = write(tmp_path, members())
    (loose / "images_background_small2").mkdir()
    (loose / CHARACTER).parent.mkdir()
    (loose / CHARACTER).symlink_to(loose / GREEK)
    with pytest.raises(InputError, match="0395_01.png: expected plain files, got a link"):
        data.omniglot(loose)


@pytest.mark.parametrize("kind", ["gz", "tar", "zip"])
def test_no_flipped_bit_changes_what_is_read(tmp_path, kind, count):
    """One bit at a random place: refused in one line, or nothing that matters was hit."""
    folder, path, read = {
        "gz": lambda: (mnist(tmp_path), f"{MNIST[0]}.gz", lambda folder: data.mnist(folder, check=False)),
        "tar": lambda: (tar(tmp_path / "cifar-10-binary.tar.gz", GOOD), "cifar-10-binary.tar.gz", data.cifar),
        "zip": lambda: (
            omniglot(tmp_path),
            "images_background_small1.zip",
            lambda folder: data.omniglot(folder, check=False),
        ),
    }[kind]()
    whole, good, draw, refused = (folder / path).read_bytes(), data.digest(read(folder)), random.Random(0), 0
    for _ in range(count(1000)):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (folder / path).write_bytes(flipped)
        try:
            assert data.digest(read(folder)) == good
        except InputError:
            refused += 1
    assert refused > 0.8 * count(1000)  # headers hold little that may change


def test_hostile_names_reach_the_terminal_as_codes(tmp_path, capsys):
    folder = omniglot(tmp_path / "\x1b]0;x\x07\u202e", [("\x1b[31m\x9b\u2066.png", b"")])
    assert errors.run(lambda: data.omniglot(folder, check=False) and 0) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and shown.err.startswith("error: ")
    assert all(character.isprintable() for character in shown.err.rstrip("\n")) and "\\x1b[31m" in shown.err


# --- where they are looked for ---


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mnist", [*MNIST, "each may end in .gz"]),
        ("cifar10", ["data_batch_1.bin", "cifar-10-batches-bin/test_batch.bin", "cifar-10-binary.tar.gz"]),
        ("cifar100", ["train.bin", "cifar-100-binary/test.bin", "cifar-100-binary.tar.gz"]),
        ("omniglot", ["images_background.zip", "images_background_small1.zip and images_background_small2.zip"]),
    ],
)
def test_a_missing_set_names_every_way_to_have_it(places, name, wanted):
    ways = [
        f"in DIR/{name} and give --data-dir DIR",
        f"DIR/{name}/VERSION that tensorflow-datasets prepared as array_record",
    ]
    ways += [
        f"`mirage data {name}` downloads",
        f"`mirage data {name} --tfds` prepares the directory (needs TensorFlow)",
    ]
    with pytest.raises(InputError) as caught:
        published.locate(name, places / "dir")
    for words in (f"{places}/dir, {places}/cache", *wanted, *ways):
        assert words in str(caught.value)
    with pytest.raises(InputError, match=f"data set {name} is not here; put "):
        data.load(name, places / "dir")
    with pytest.raises(InputError, match=f"data set {name} is not here; put "):
        published.hashes(name, places / "dir")


def prepared_at(place, name="mnist", version="3.0.1", form="array_record"):
    files.write(place / name / version / "dataset_info.json", json.dumps({"fileFormat": form}))
    return place / name / version


def test_files_go_before_prepared_directories_and_those_by_place_and_version(places, monkeypatch):
    homely = prepared_at(places / "home" / "tensorflow_datasets")
    assert published.locate("mnist") == homely
    monkeypatch.setenv("TFDS_DATA_DIR", str(places / "own"))
    own = prepared_at(places / "own")
    assert published.locate("mnist") == own
    cached = prepared_at(places / "cache" / "tensorflow_datasets")
    assert published.locate("mnist") == cached
    given = prepared_at(places / "dir")
    newer = prepared_at(places / "dir", version="3.0.10")
    assert published.locate("mnist", places / "dir") == newer and given != newer
    assert published.locate("mnist") == cached
    mnist(places / "cache" / "mnist")
    assert published.locate("mnist", places / "dir") == places / "cache" / "mnist"


def test_a_directory_that_needs_tensorflow_is_passed_over_and_named(places):
    prepared_at(places / "dir", form="tfrecord")
    with pytest.raises(
        InputError, match=r"mnist/3.0.1 is prepared as tfrecord, which is not read without TensorFlow; put"
    ):
        published.locate("mnist", places / "dir")
    older = prepared_at(places / "dir", version="3.0.0")
    assert published.locate("mnist", places / "dir") == older
    files.write(older / "dataset_info.json", "[]")
    with pytest.raises(InputError, match="is not here"):
        published.locate("mnist", places / "dir")


# --- tensorflow-datasets ---


def builder(place, name, features, splits, version="3.0.1"):
    """Prepare (image, other fields) of each split by tensorflow-datasets as array_record; PNG files need no TensorFlow."""
    import tensorflow_datasets as tfds
    from PIL import Image

    tfds.disable_progress_bar()

    def encoded(image):
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        out.seek(0)
        return out

    def examples(items):
        for key, (image, others) in enumerate(items):
            yield key, {"image": encoded(image), **others}

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features(tfds)))

    def generators(self, manager):
        return {split: examples(items) for split, items in splits.items()}

    body = {"VERSION": tfds.core.Version(version), "name": name, "_info": info, "_split_generators": generators}
    body |= {"_generate_examples": lambda self: None, "__module__": __name__}
    made = type(name.title(), (tfds.core.GeneratorBasedBuilder,), body, skip_registration=True)(
        data_dir=place, file_format="array_record"
    )
    made.download_and_prepare()
    return Path(made.data_dir)


def images(tfds, shape, classes):
    return {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(num_classes=classes)}


def small_mnist(place, n=12):
    arrays = list(digits(n=n).values())
    labelled = [
        [(image, {"label": int(label)}) for image, label in zip(*arrays[i : i + 2], strict=True)] for i in (0, 2)
    ]
    splits = dict(zip(("train", "test"), labelled, strict=True))
    return builder(place, "mnist", lambda tfds: images(tfds, (28, 28, 1), 10), splits)


def in_order(found):
    """Items of the two splits in an order of their own, which the storage does not keep."""
    train = sorted(zip(found.train_images.tolist(), found.train_labels.tolist(), strict=True))
    return train, sorted(zip(found.test_images.tolist(), found.test_labels.tolist(), strict=True))


def test_mnist_prepared_by_tensorflow_datasets(places):
    folder = small_mnist(places / "dir")
    assert published.locate("mnist", places / "dir") == folder == places / "dir" / "mnist" / "3.0.1"
    found = data.load("mnist", folder)
    raw = write(places / "raw", {name: idx(array) for name, array in digits(n=12).items()})
    expected = data.load("mnist", raw, "any")
    assert in_order(found) == in_order(expected)
    assert [array.dtype for array in found] == [array.dtype for array in expected]
    same(found, data.load("mnist", folder))
    assert data.named("mnist", folder, found) == "MNIST from tensorflow-datasets 3.0.1, 12+2 images"
    hashes = published.hashes("mnist", folder)
    assert published.changed("mnist", hashes) == []
    assert set(hashes) == {path.name for path in folder.iterdir()} and len(hashes) == 4
    assert hashes["features.json"] == files.sha256(folder / "features.json")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_prepared_by_tensorflow_datasets(places, name):
    draw = np.random.default_rng(0)
    items = [(draw.integers(0, 256, (32, 32, 3), np.uint8), {"label": i, "id": f"train_{i}"}) for i in range(10)]
    folder = builder(
        places,
        name,
        lambda tfds: images(tfds, (32, 32, 3), 10 if name == "cifar10" else 100) | {"id": tfds.features.Text()},
        {"train": items[:7], "test": items[7:]},
    )
    found = data.load(name, folder)
    wanted = [np.stack([image for image, _ in part]) for part in (items[:7], items[7:])]
    assert in_order(found) == in_order(data.Images(wanted[0], np.arange(7), wanted[1], np.arange(7, 10)))


def test_omniglot_prepared_by_tensorflow_datasets(places):
    paper = [np.repeat(np.where(drawing(of), 0, 255).astype(np.uint8)[..., None], 3, -1) for of in range(3)]
    names = ["Greek_0", "N_Ko_1", "ULOG_2"]

    def features(tfds):
        label = tfds.features.ClassLabel(names=names)
        return {"image": tfds.features.Image(shape=(105, 105, 3), encoding_format="png"), "label": label}

    splits = {
        "train": [(paper[0], {"label": 0}), (paper[1], {"label": 0}), (paper[2], {"label": 1})],
        "test": [(paper[0], {"label": 2})],
    }
    folder = builder(places, "omniglot", features, splits, "3.0.0")
    found = data.load("omniglot", folder)
    assert found.classes.tolist() == ["Greek/character01", "N_Ko/character02", "ULOG/character03"]
    assert found.background.tolist() == [True, True, False]
    assert sorted(found.labels.tolist()) == [0, 0, 1, 2] and found.labels.dtype == np.int32
    assert sorted(found.drawers[found.labels == 0].tolist()) == [0, 1]
    for label, of in ((0, {0, 1}), (1, {2}), (2, {0})):
        seen = {image.tobytes() for image in found.images[found.labels == label]}
        assert seen == {drawing(i).tobytes() for i in of}


@pytest.mark.parametrize("n", [5, 9])
def test_mnist_through_the_mock_of_tensorflow_datasets(places, n):
    import tensorflow_datasets as tfds

    folder = small_mnist(places)
    with tfds.testing.mock_data(num_examples=n, data_dir=str(folder), policy=tfds.testing.MockPolicy.USE_FILES):
        found = data.load("mnist", folder)
        same(found, data.load("mnist", folder))
    assert found.train_images.shape == (n, 28, 28) and found.train_images.dtype == np.uint8
    assert len(found.test_labels) == n and found.test_labels.max() < 10
    assert "tensorflow" not in sys.modules


def test_a_damaged_prepared_directory_is_one_line(places):
    folder = small_mnist(places)
    (shard,) = folder.glob("*train*")
    whole = bytearray(shard.read_bytes())
    at = whole.index(b"\x89PNG") + 100
    whole[at] ^= 1
    shard.write_bytes(whole)
    with pytest.raises(InputError, match="3.0.1 could not be read by tensorflow-datasets: RuntimeError: Corrupted"):
        data.load("mnist", folder)
    shard.write_bytes(whole[:1000])
    with pytest.raises(InputError, match="3.0.1 could not be read by tensorflow-datasets"):
        data.load("mnist", folder)
    shutil.copy(folder / "dataset_info.json", places / "dir")
    with pytest.raises(InputError, match="could not be read by tensorflow-datasets"):
        data.load("mnist", places / "dir")


def test_another_set_under_the_name_is_refused(places):
    folder = small_mnist(places)
    with pytest.raises(InputError, match=r"3.0.1: expected images of \(32, 32, 3\), got \(28, 28, 1\)"):
        data.load("cifar10", folder)
    with pytest.raises(InputError, match=r"3.0.1: expected images of \(105, 105, 3\), got \(28, 28, 1\)"):
        data.load("omniglot", folder)


@pytest.mark.parametrize("form", ["named", "nested", "in json", "legacy"])
def test_a_prepared_directory_imports_nothing_of_its_own(places, monkeypatch, form):
    folder, marks = small_mnist(places), places / "marks"
    files.write(places / "hostile.py", f"open({str(marks)!r}, 'w')")
    monkeypatch.syspath_prepend(places)
    path = folder / "features.json"
    whole = files.read_json(path)
    hostile = {"pythonClassName": "hostile.Feature", "tensor": {}}
    if form == "named":
        whole["pythonClassName"] = "hostile.Feature"
    elif form == "nested":
        whole["featuresDict"]["features"]["label"] = {"python_class_name": "hostile.Feature", "class_label": {}}
    elif form == "in json":
        whole = {"pythonClassName": whole["pythonClassName"], "jsonFeature": {"json": json.dumps({"x": hostile})}}
    else:
        whole = {"type": "hostile.Feature", "content": {}}
    files.write(path, json.dumps(whole))
    with pytest.raises(InputError, match="features.json: expected features of tensorflow-datasets, got .*hostile"):
        data.load("mnist", folder)
    assert not marks.exists() and "hostile" not in sys.modules


def test_without_tensorflow_datasets_it_says_what_to_install(places, monkeypatch):
    folder = prepared_at(places)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match=r"is read by tensorflow-datasets: pip install mirage_jax\[data\]"):
        data.load("mnist", folder)


# --- made by rule ---

SHAPES = {"mnist": (28, 28), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}


@pytest.mark.parametrize("name", data.TITLES)
def test_procedural_sets_are_their_seeds_and_can_be_learned(name):
    found = data.load(name, None, "procedural", seed=4)
    same(found, data.load(name, None, "procedural", seed=4))
    assert data.digest(found) != data.digest(data.load(name, None, "procedural", seed=5))
    assert data.named(name, None, found).startswith(f"procedural images in the form of {data.TITLES[name]}, ")
    if isinstance(found, data.Drawings):
        assert found.images.shape == (1000, 105, 105) and found.images.dtype == bool
        assert (np.bincount(found.labels) == 20).all() and len(found.classes) == 50
        to_train, flat = found.drawers < 15, found.images.reshape(1000, -1).astype(float)
        train, labels = flat[to_train], found.labels[to_train]
        test, truth = flat[~to_train], found.labels[~to_train]
    else:
        assert found.train_images.shape[1:] == SHAPES[name] and found.train_images.dtype == np.uint8
        train, test = (part.reshape(len(part), -1).astype(float) for part in (found.train_images, found.test_images))
        labels, truth = found.train_labels, found.test_labels
        assert np.ptp(found.train_images) > 200
    classes = labels.max() + 1
    assert sorted(set(labels)) == list(range(classes)) and truth.max() < classes
    centroids = np.stack([train[labels == label].mean(0) for label in range(classes)])
    distance = (centroids**2).sum(1) - 2 * test @ centroids.T
    right = int((distance.argmin(1) == truth).sum())
    # by chance the rate is 1 / classes: at least ten times it, or half of all, is asked for, at the alarm's own level
    assert alarms.counts(right, len(truth), min(10 / classes, 0.5), 1)


def test_textures_stay_inside_their_range():
    pixels = procedural.textures(procedural.generator("cifar10", 0), np.zeros(400, np.int32))
    assert pixels.min() > 0 and pixels.max() < 255  # so that nothing wrapped round


def test_a_stroke_by_hand():
    # three equal corners keep the pen there; a straight row of corners is drawn as a straight line, evenly
    corners = np.tile(np.arange(float(procedural.CORNERS)), (2, 1)) * np.array([[0.0], [1.0]])
    still, straight = procedural.spline(corners)
    assert (still == 0).all()
    step = (procedural.CORNERS - 2) / procedural.POINTS
    np.testing.assert_allclose(straight, 0.5 + step * np.arange(procedural.POINTS), rtol=1e-12)


# --- doors ---


def test_what_load_does_not_know_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown image set ../x; known: mnist, cifar10, cifar100, omniglot"):
        data.load("../x", tmp_path)
    with pytest.raises(InputError, match="expected published or any and a folder, or procedural and none; got 'some'"):
        data.load("mnist", tmp_path, "some")
    with pytest.raises(InputError, match="got 'published' and None"):
        data.load("mnist", None)
    with pytest.raises(InputError, match="got 'procedural' and /"):
        data.load("mnist", tmp_path, "procedural")
