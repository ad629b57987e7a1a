"""A table of scores from a file of someone's: CSV or Parquet, columns renamed on request, nothing guessed.

A cell of a number column is a number in ASCII digits, or null if it is empty or nan; anything else is refused by row (from
0) and column. Text is kept as it stands.
"""

import csv
import difflib
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mirage_jax import table
from mirage_jax.errors import InputError
from mirage_jax.untrusted import visible

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NULL = ("", "nan", "NaN")
SHOWN = 40  # characters of a cell or a name in a message


def renames(texts: Iterable[str]) -> dict[str, str]:
    """`--map` as a mapping ours -> theirs: each text is OURS=THEIRS, or several with commas between them.

    A comma divides only where NAME= follows it, so that a column called `acc,none` can be named.
    """
    out: dict[str, str] = {}
    for text in texts:
        for part in re.split(r",(?=\w+=)", text):
            ours, equals, theirs = part.partition("=")
            if not equals or not ours or not theirs:
                raise InputError(f"--map: expected OURS=THEIRS, got {part!r}")
            if ours in out:
                raise InputError(f"--map: {ours} is given twice, as {out[ours]!r} and {theirs!r}")
            out[ours] = theirs
    return out


def read_table(path: Path, mapping: Mapping[str, str]) -> pd.DataFrame:
    """Read a table of scores.

    Args:
        path: a .csv file (UTF-8, a header, commas), or a .parquet file; where one of ours has its sidecar beside it, both
            are checked.
        mapping: column of `mirage_jax.table` -> column of the file that is to be read as it. A column of the file that
            has our name already gives way.

    Returns:
        The columns as they stand, renamed; of a CSV file those that are numbers in `mirage_jax.table` as float64, all
        others as text.

    Raises:
        InputError: the file, the row (from 0) and the column that cannot be read.
    """
    if path.is_dir():
        raise InputError(f"expected a .csv or .parquet file, got a folder: {path}")
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"expected a .csv or .parquet file, got {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected a table, got an empty file")
    df = _renamed(_read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path), mapping, path)
    if df.empty:
        raise InputError(f"{path}: expected at least one row, got none")
    if path.suffix.lower() == ".csv":
        for name in df.columns:
            if table.columns.get(name, "text") != "text":
                df[name] = _numbers(df[name], name, path)
    return df


def _read_csv(path: Path) -> pd.DataFrame:
    """Every cell as text."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}: save it as UTF-8") from None
    rows: list[list[str]] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        for cells in reader:
            if not cells:  # a blank line
                continue
            if len(cells) != len(header):
                raise InputError(f"{path}: row {len(rows)}: expected {len(header)} cells, got {len(cells)}")
            rows.append(cells)
    except csv.Error as error:
        raise InputError(f"{path}: row {len(rows)}: not CSV: {error}") from None
    _once(header, path)
    return pd.DataFrame(rows, columns=pd.Index(header, dtype=object), dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    side = path.with_suffix(".json")
    if side.is_file() and "checksum" in side.read_text("utf-8", "replace"):  # else it is no sidecar of ours
        return table.read(path)
    stored = io.BytesIO(path.read_bytes())
    try:
        content = pq.read_table(stored)
        _once(content.schema.names, path)
        return content.to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file that can be read: {error}") from None


def _once(names: list[str], path: Path) -> None:
    twice = sorted({visible(name, SHOWN) for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: two columns are called {', '.join(twice)}")


def _renamed(df: pd.DataFrame, mapping: Mapping[str, str], path: Path) -> pd.DataFrame:
    for ours, theirs in mapping.items():
        if ours not in table.columns:
            raise InputError(f"--map: {visible(ours, SHOWN)} is no column of the table{nearest(ours, table.columns)}")
        if theirs not in df.columns:
            raise InputError(f"--map: {path} has no column {visible(theirs, SHOWN)}{nearest(theirs, df.columns)}")
    kept = df.drop(columns=[name for name in df.columns if name in mapping or name in mapping.values()])
    return kept.assign(**{ours: df[theirs] for ours, theirs in mapping.items()})


def nearest(name: str, known: Iterable[str]) -> str:
    """The closest known name as a question, or all of them where none is close."""
    names = {str(one).casefold(): str(one) for one in known}
    near = difflib.get_close_matches(name.casefold(), names, n=1)
    if near:
        return f": did you mean {visible(names[near[0]], SHOWN)}?"
    return f"; it has {', '.join(visible(one, SHOWN) for one in names.values())}"


def _numbers(column: pd.Series, name: str, path: Path) -> pd.Series:
    cells = [cell.strip(" \t") for cell in column]
    for row, cell in enumerate(cells):
        if cell not in _NULL and not _NUMBER.fullmatch(cell):
            percent = "; a percentage is written as a share, .5 for 50%" if cell.endswith("%") else ""
            raise InputError(
                f"{path}: row {row}, column {name}: text where a number belongs: {cell[:SHOWN]!r}{percent}"
            )
    return pd.Series([float("nan") if cell in _NULL else float(cell) for cell in cells], index=column.index)
