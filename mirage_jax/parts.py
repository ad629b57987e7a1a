"""Finished parts of a sweep on disk: one parquet file each, whole or absent, and never taken for another config's."""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mirage_jax import files
from mirage_jax.errors import InputError
from mirage_jax.progress import echo

SCHEMA = pa.schema([("job", pa.int64()), ("cell", pa.int64()), ("counts", pa.list_(pa.int64()))])
KEY = b"mirage_part"


class Parts(NamedTuple):
    """The parts of one study in a run folder. `about` says what they were made from; equal content gives equal bytes."""

    folder: Path  # DIR/parts
    study: str
    about: Mapping[str, Any]  # `reuse` and `config` of the study's provenance

    def path(self, number: int) -> Path:
        """File of one part."""
        return self.folder / f"{self.study}-{number:06d}.parquet"

    def write(self, number: int, of: int, counts: Mapping[tuple[int, int], list[int]]) -> None:
        """Write the counts of a part, (job, cell) -> counts."""
        rows = [{"job": job, "cell": cell, "counts": values} for (job, cell), values in counts.items()]
        content = pa.Table.from_pylist(rows, schema=SCHEMA)
        about = {**self.about, "study": self.study, "part": number, "of": of, "sha256": _digest(counts)}
        buffer = io.BytesIO()
        pq.write_table(content.replace_schema_metadata({KEY: files.to_json(about)}), buffer, compression="zstd")
        files.write(self.path(number), buffer.getvalue())

    def read(self, number: int, of: int) -> dict[tuple[int, int], list[int]] | None:
        """The counts of a part; None where it is not there or damaged (it is then computed again).

        Raises:
            InputError: the part was made by another config, version, source or data.
        """
        path = self.path(number)
        if not path.is_file():
            return None
        try:
            content = pq.read_table(io.BytesIO(path.read_bytes()))
            about = json.loads(content.schema.metadata[KEY])
            counts = {(job, cell): values for job, cell, values in zip(*content.to_pydict().values(), strict=True)}
            whole = about["sha256"] == _digest(counts)
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
            whole, about, counts = False, {}, {}
        if not whole:
            echo(f"{path} is damaged: it is computed again", err=True)
            return None
        wanted = {**self.about, "study": self.study, "part": number, "of": of}
        if {name: value for name, value in about.items() if name != "sha256"} != json.loads(files.to_json(wanted)):
            raise InputError(
                f"{path} is a part of another run ({_difference(about, wanted)}): merge or delete {self.folder}"
            )
        return counts

    def discard(self) -> None:
        """Remove this study's parts, which a written table has made superfluous, and the folder if nothing is left."""
        for path in self.folder.glob(f"{self.study}-*.parquet"):
            if re.fullmatch(rf"{re.escape(self.study)}-\d{{6}}\.parquet", path.name):
                path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _digest(counts: Mapping[tuple[int, int], list[int]]) -> str:
    return files.sha256(json.dumps([[*where, *map(int, values)] for where, values in counts.items()]).encode())


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first thing in which two runs differ, for a human."""
    for name in ("config", "reuse"):
        a, b = dict(there.get(name, {})), json.loads(json.dumps(here.get(name, {})))
        for field in sorted({*a, *b}):
            if a.get(field) != b.get(field):
                return f"{field}: {a.get(field)} there, {b.get(field)} here"
    return f"part {there.get('part')} of {there.get('of')} there, {here['part']} of {here['of']} here"
