"""`python -m scripts.bench NAME --json FILE [--quick]`."""

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from mirage_jax import errors, files, progress
from mirage_jax.errors import InputError

NAMES = ("metrics", "montecarlo", "train", "verdict")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one comparison, print every row, and write them as JSON."""
    return errors.run(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description="Time ours beside its peers.")
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the rows are written")
    parser.add_argument("--quick", action="store_true", help="small batches and few repeats: shows that it runs")
    args = parser.parse_args(argv)
    if args.name not in NAMES:
        raise InputError(f"expected a comparison, one of {', '.join(NAMES)}, got {args.name!r}")
    from mirage_jax import table

    rows = []
    for row in importlib.import_module(f"scripts.bench.{args.name}").rows(args.quick):
        progress.echo("  ".join(f"{key}={_short(value)}" for key, value in row.items()))
        rows.append(row)
    about = {"benchmark": args.name, "quick": args.quick, "devices": table.devices(), "cpus": os.cpu_count()}
    about |= {"machine": platform.machine(), "commit": table.commit(), "rows": rows}
    if args.json:
        files.write(args.json, files.to_json(about))


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{_short(each)}" for name, each in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    errors.leave(main())
