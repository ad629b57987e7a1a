"""Checkpoints of a training run: orbax's arrays beside a manifest of SHA-256 hashes, since orbax does not notice a flipped bit.

`DIR/parts/STUDY-LABEL@STEP/` holds `arrays/` (orbax) and `manifest.json`: what it was made from, its step, and the hash of
every file. It is written under a temporary name, so it is whole or absent, and it is read only if all of that agrees.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mirage_jax import files
from mirage_jax.errors import InputError
from mirage_jax.parts import MANIFEST, Parts, difference

ARRAYS = "arrays"


class Found(NamedTuple):
    """A checkpoint that is whole and of this run."""

    path: Path
    step: int


def find(kept: Parts, label: str) -> Found | None:
    """The latest checkpoint of a label, every byte of it checked.

    Raises:
        InputError: it is damaged, or of another run; nothing is changed then.
    """
    paths = _all(kept, label)
    if not paths:
        return None
    path = paths[-1]
    again = f"delete {path} to train from its start"
    try:
        manifest = files.read_json(path / MANIFEST)
        about, hashes, step = dict(manifest["about"]), dict(manifest["files"]), manifest["step"]
    except (InputError, OSError, KeyError, TypeError, ValueError):
        raise InputError(f"{path} has no readable {MANIFEST}: {again}") from None
    wanted = json.loads(files.to_json(kept.about))
    if about != wanted:
        raise InputError(
            f"{path} is a checkpoint of another run ({difference(about, wanted)}): delete it or choose another folder"
        )
    if step != _step(path) or sorted(hashes) != _names(path):
        raise InputError(f"{path} does not hold what its {MANIFEST} lists: {again}")
    for name, digest in hashes.items():
        if files.sha256(path / name) != digest:
            raise InputError(f"{path / name} is damaged, its SHA-256 is not the one in {MANIFEST}: {again}")
    return Found(path, step)


def restore(found: Found, like: Sequence[Any]) -> list[np.ndarray]:
    """The arrays of a checkpoint, which have the shapes and types of `like`."""
    import orbax.checkpoint as ocp

    shapes = {f"{i:05d}": jax.ShapeDtypeStruct(x.shape, x.dtype) for i, x in enumerate(like)}
    with ocp.StandardCheckpointer() as orbax:
        arrays = orbax.restore((found.path / ARRAYS).absolute(), shapes)
    return [np.asarray(arrays[name]) for name in sorted(arrays)]


def save(kept: Parts, label: str, step: int, arrays: Sequence[Any]) -> None:
    """Write a checkpoint, then remove the label's earlier ones."""
    import orbax.checkpoint as ocp

    kept.folder.mkdir(parents=True, exist_ok=True)
    before = _all(kept, label)
    path = kept.folder / f"{files.plain_name(f'{kept.study}-{label}')}@{step}"
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=kept.folder))
    try:
        with ocp.StandardCheckpointer() as orbax:
            orbax.save((temporary / ARRAYS).absolute(), {f"{i:05d}": np.asarray(x) for i, x in enumerate(arrays)})
        hashes = {name: files.sha256(temporary / name) for name in _names(temporary)}
        files.write(temporary / MANIFEST, files.to_json({"about": kept.about, "step": step, "files": hashes}))
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in before:
        going = old.with_name(f".{old.name}.tmp")  # half removed it would not pass for a checkpoint
        shutil.rmtree(going, ignore_errors=True)  # of a run that was killed just here
        os.rename(old, going)
        shutil.rmtree(going)


def _all(kept: Parts, label: str) -> list[Path]:
    """All checkpoints of a label, the latest last."""
    name = re.compile(rf"{re.escape(kept.study)}-{re.escape(label)}@\d+")
    found = kept.folder.glob("*@*")
    return sorted((path for path in found if name.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    return int(path.name.rpartition("@")[2])


def _names(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != MANIFEST)
