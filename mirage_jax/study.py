"""A study: a frozen dataclass `Config`, a pure `run(config, **folders)`, and this main around them.

A study is a module with NAME, DATA (the data sets it reads, by name), PRESETS (`quick` and `full` configs) and `run`. Its
`run` gets the folder of each data set as a keyword and returns `Output`. Its table goes to `DIR/tables/NAME.parquet`, other
frames to `DIR/results/NAME_*.parquet`.
"""

import contextlib
import dataclasses
import inspect
import io
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, NoReturn

import jax
import pandas as pd

from mirage_jax import errors, files, published, table
from mirage_jax.errors import InputError
from mirage_jax.progress import echo, shown

PRESETS = ("quick", "full")


class Output(NamedTuple):
    """What a study found: rows of the one table, and frames of another form (tests, examples) by name."""

    rows: Sequence[Mapping[str, Any]]
    results: Mapping[str, pd.DataFrame] = {}


def main(study: ModuleType) -> NoReturn:
    """`python -m PACKAGE.NAME [--preset quick|full] [--out DIR] [--data-dir DIR] [--seed N] ...`: run one study."""
    errors.leave(errors.run(lambda: _main(study, sys.argv[1:])))


def _main(study: ModuleType, argv: Sequence[str]) -> int:
    import tyro

    preset = _preset(argv)
    command = dataclasses.make_dataclass(
        "Command",
        [
            ("config", tyro.conf.OmitArgPrefixes[type(study.PRESETS[preset])], dataclasses.field()),
            ("preset", Literal["quick", "full"], dataclasses.field(default=preset)),
            ("out", Path, dataclasses.field(default=Path("results"))),
            ("data_dir", Path | None, dataclasses.field(default=None)),
            ("quiet", tyro.conf.FlagCreatePairsOff[bool], dataclasses.field(default=False)),
        ],
        frozen=True,
    )
    program = f"python -m {Path(inspect.getfile(study)).parent.name}.{study.NAME}"
    args = parse(command, command(study.PRESETS[preset]), argv, program, study.__doc__)
    with shown(args.quiet):
        path = execute(study, args.config, args.out, args.data_dir)
    echo(f"{path}")
    return errors.DONE


def parse(form: type, default: Any, argv: Sequence[str], program: str, description: str | None) -> Any:
    """Read a dataclass off the command line; a mistake is one line, like any other bad input."""
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(form, default=default, args=list(argv), prog=program, description=description)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise  # --help
        raise InputError(re.sub(r"[\u2500-\u257f\s]+", " ", said.getvalue())) from None


def _preset(argv: Sequence[str]) -> str:
    """The preset named on the command line; its config is what the other flags then change."""
    named = [b for a, b in itertools.pairwise(argv) if a == "--preset"]
    named += [word.removeprefix("--preset=") for word in argv if word.startswith("--preset=")]
    return named[-1] if named and named[-1] in PRESETS else "quick"


def execute(study: ModuleType, config: Any, out: Path, data_dir: Path | None = None) -> Path:
    """Run a study and write its table and results under a folder; nothing is written unless all of it ran."""
    folders = {name: published.locate(name, data_dir) for name in study.DATA}
    files.check_run_folder(out)
    about = provenance(study, config, folders)
    check_seed(config.seed)
    with jax.enable_x64(False):  # the same numbers whatever the user's flag
        output = study.run(config, **folders)
    about["results"] = sorted(f"{study.NAME}_{name}" for name in output.results)
    rows = [{"study": study.NAME, **row} for row in output.rows]
    df = table.frame(rows)
    for name, result in output.results.items():
        table.write(result, out / "results" / f"{study.NAME}_{name}.parquet", about, kind="result")
    path = out / "tables" / f"{study.NAME}.parquet"
    table.write(df, path, about)
    return path


def check_seed(seed: int) -> None:
    """Refuse seeds that JAX's keys would fold onto others."""
    if not 0 <= seed < 1 << 32:
        raise InputError(f"--seed: expected a whole number in [0, 2^32), got {seed}")


def provenance(study: ModuleType, config: Any, folders: Mapping[str, Path]) -> dict[str, Any]:
    """The sidecar's account of a study: config, source, and the data as they lie on this machine."""
    data = {name: published.hashes(name, folder) for name, folder in folders.items()}
    changed = {name: published.changed(name, found) for name, found in data.items()}
    notes = {"data_changed": {name: list(names) for name, names in changed.items() if names}}
    return table.provenance(study.NAME, dataclasses.asdict(config), data, source_hash(study), notes)


def source_hash(study: ModuleType) -> str:
    """Hash of the study's package, all its modules, so that a table is not reused after its code changed."""
    folder = Path(inspect.getfile(study)).parent
    return files.sha256("".join(files.sha256(path) for path in sorted(folder.glob("*.py"))).encode())[:16]


def reusable(study: ModuleType, config: Any, out: Path, data_dir: Path | None = None) -> bool:
    """Whether the stored table was made by this config, version, source and data, and is undamaged."""
    folders = {name: published.locate(name, data_dir) for name in study.DATA}
    wanted = provenance(study, config, folders)["reuse"]
    try:
        found = parts(out, study.NAME)
        for path in found:
            table.read(path)
        stored = [table.read_sidecar(path) for path in found]
        if [sidecar["file"] for sidecar in stored] != [path.name for path in found]:
            return False
    except (InputError, OSError):
        return False
    return all(sidecar["study"] == study.NAME and sidecar["reuse"] == wanted for sidecar in stored)


def parts(out: Path, name: str) -> list[Path]:
    """A study's table and the results that its sidecar says belong to it."""
    path = out / "tables" / f"{name}.parquet"
    results = table.read_sidecar(path).get("results", [])
    return [path, *(out / "results" / f"{files.plain_name(result)}.parquet" for result in results)]
