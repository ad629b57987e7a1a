"""Finished parts of a sweep on disk: one parquet file each, whole or absent, and never taken for another config's."""

import io
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mirage_jax import files
from mirage_jax.errors import InputError
from mirage_jax.progress import echo
from mirage_jax.sweep import Counts

MANIFEST = "manifest.json"  # of a checkpoint, which is a folder among the parts
SCHEMA = pa.schema([("job", pa.int64()), ("cell", pa.int64()), ("counts", pa.list_(pa.int64()))])
ABOUT, DIGEST = b"mirage_part", b"sha256"


class Parts(NamedTuple):
    """The parts of one study in a run folder. Equal content gives equal bytes."""

    folder: Path  # DIR/parts
    study: str
    about: Mapping[str, Mapping[str, Any]]  # what they are made from: see `study.store`

    def path(self, number: int) -> Path:
        """File of one part."""
        return self.folder / f"{self.study}-{number:06d}.parquet"

    def write(self, number: int, of: int, counts: Counts) -> None:
        """Write the counts of a part."""
        rows = [{"job": job, "cell": cell, "counts": values} for (job, cell), values in counts.items()]
        about = files.to_json({**self.about, "part": number, "of": of}).encode()
        content = pa.Table.from_pylist(rows, schema=SCHEMA)
        buffer = io.BytesIO()
        content = content.replace_schema_metadata({ABOUT: about, DIGEST: _digest(about, counts)})
        pq.write_table(content, buffer, compression="zstd")
        files.write(self.path(number), buffer.getvalue())

    def read(self, number: int, of: int) -> Counts | None:
        """The counts of a part; None where it is not there or damaged (it is then computed again).

        Raises:
            InputError: the part was made from something else.
        """
        path = self.path(number)
        if not path.is_file():
            return None
        found = _load(path)
        if found is None:
            echo(f"{path} is damaged: it is computed again", err=True)
            return None
        about, counts = found
        wanted = json.loads(files.to_json({**self.about, "part": number, "of": of}))
        if about != wanted:
            raise InputError(
                f"{path} is a part of another run ({difference(about, wanted)}): merge or delete {self.folder}"
            )
        return counts

    def discard(self) -> None:
        """Remove the parts that a written table has made superfluous, what killed runs left of them, and an empty folder."""
        name = re.compile(
            rf"{re.escape(self.study)}-\d{{6,}}\.parquet|\.{re.escape(self.study)}-\d{{6,}}\.parquet\..*\.tmp"
        )
        own = json.loads(files.to_json(self.about))
        for path in sorted(self.folder.glob("*")):
            if name.fullmatch(path.name):
                found = _load(path)
                if found is None or {field: found[0].get(field) for field in own} == own:  # another config's stay
                    path.unlink()
            elif path.is_dir() and path.name.lstrip(".").startswith(f"{self.study}-"):
                if path.name.startswith(".") or _own(path, own):
                    shutil.rmtree(path)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _own(folder: Path, own: Mapping[str, Any]) -> bool:
    """Whether a folder is a checkpoint made from the same."""
    try:
        return files.read_json(folder / MANIFEST)["about"] == own
    except (InputError, OSError, KeyError, TypeError):
        return False


def _load(path: Path) -> tuple[dict[str, Any], Counts] | None:
    """What a part was made from, and its counts; None if a byte of either is damaged."""
    try:
        content = pq.ParquetFile(io.BytesIO(path.read_bytes())).read(use_threads=False)
        about, digest = (content.schema.metadata[key] for key in (ABOUT, DIGEST))
        counts = {(job, cell): values for job, cell, values in zip(*content.to_pydict().values(), strict=True)}
        return (json.loads(about), counts) if digest == _digest(about, counts) else None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        return None


def _digest(about: bytes, counts: Counts) -> bytes:
    values = json.dumps([[*where, *map(int, values)] for where, values in counts.items()])
    return files.sha256(about + values.encode()).encode()


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first thing in which two runs differ, for a human."""
    for name in sorted({*there, *here}):
        a, b = there.get(name), here.get(name)
        if isinstance(a, dict) and isinstance(b, dict) and a != b:
            return difference(a, b)
        if a != b:
            return f"{name}: {a} there, {b} here"
    return "nothing"
