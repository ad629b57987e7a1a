"""report.html of a results folder: one file, no script, made from what is stored there and nothing else.

Everything shown is text from outside: the template engine escapes it, and `visible` turns what would act unseen into codes.
"""

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from mirage_jax import files, published, table
from mirage_jax.errors import InputError
from mirage_jax.untrusted import read_csv_text, visible

SYMBOLS = {"holds": "✓", "fails": "✕", "mixed": "≈", "not testable here": "–"}
CLASSES = {"holds": "holds", "fails": "fails", "mixed": "mixed", "not testable here": "open"}
SHOWN = 60  # plotted points listed under a figure


def write(folder: Path) -> Path:
    """Write `report.html` from run.json, ledger.json, figures, tables and results; nothing is run.

    Raises:
        InputError: the folder is no results folder, or one of its tables is damaged.
    """
    for name in ("run.json", "ledger.json"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is not a results folder: it holds no {name}")
    path, summed = folder / "report.html", (folder / files.SUMS).is_file()
    faults = [fault for fault in files.damaged(folder) if not fault.startswith("report.html: ")] if summed else []
    faults = [fault for fault in faults if not fault.endswith(f"not listed in {files.SUMS}")]
    if faults:
        raise InputError(f"{folder}: changed since it was written: {'; '.join(faults)}")
    try:
        page = render(folder)
    except (KeyError, TypeError, AttributeError, jinja2.UndefinedError, UnicodeDecodeError) as error:
        raise InputError(
            f"{folder}: run.json, ledger.json or a figure's csv is not what was written: {error}"
        ) from None
    files.write(path, page)
    if summed:
        files.resum(folder, path.name)
    return path


def render(folder: Path) -> str:
    """The page as text."""
    run, ledger = files.read_json(folder / "run.json"), files.read_json(folder / "ledger.json")
    drawn = [_figure(folder, figure) for figure in run["figures"]]
    used = [study["name"] for study in run["studies"] if study["status"] in ("ran", "reused")]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: visible(value) if isinstance(value, str) else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["result"] = result
    return environment.get_template("report.html.jinja").render(
        run=run,
        ledger=ledger,
        figures=drawn,
        counts={who: _count(ledger, ours) for who, ours in (("The paper's claims", False), ("Ours", True))},
        symbols=SYMBOLS,
        classes=CLASSES,
        anchors={figure["name"]: number for number, figure in enumerate(drawn, start=1)},
        examples=_examples(folder, used),
        flagged=_flagged(folder, used),
        datasets=_datasets(folder, used),
    )


def _count(ledger: list[dict[str, Any]], ours: bool) -> dict[str, int]:
    return {s: sum(claim["status"] == s and claim["ours"] == ours for claim in ledger) for s in SYMBOLS}


def result(claim: Mapping[str, Any]) -> str:
    """A value with as many digits as its interval deserves, the interval, and n: `.42 [.38, .47], n = 900`."""
    value, low, high = claim["value"], claim["low"], claim["high"]
    if low is None or high is None:
        text = f"{value:.4g}"
    else:
        width = max(high - low, 1e-12)
        digits = min(max(1 - math.floor(math.log10(width)), 0), 6)
        text = f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return text if claim["n"] is None else f"{text}, n = {claim['n']:,}"


def _figure(folder: Path, figure: dict[str, Any]) -> dict[str, Any]:
    path = folder / "figures" / files.plain_name(figure["name"])
    header, *points = read_csv_text(path.with_suffix(".csv").read_bytes().decode())
    png = base64.b64encode(path.with_suffix(".png").read_bytes()).decode()
    return figure | {"png": png, "header": header, "points": points[:SHOWN], "total": len(points)}


def _examples(folder: Path, used: list[str]) -> dict[str, Any] | None:
    for name in used:
        path = folder / "results" / f"{files.plain_name(name)}_examples.parquet"
        if path.is_file():
            df = table.read(path)
            cells = [["" if cell is None else _cell(cell) for cell in row] for row in df.to_numpy(dtype=object)]
            return {"header": list(df.columns), "rows": cells}
    return None


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flagged(folder: Path, used: list[str]) -> list[dict[str, Any]]:
    """Cells with many missing or unparsed items, once each whatever the metric."""
    rows: list[dict[str, Any]] = []
    for name in used:
        df = table.flags(table.read(folder / "tables" / f"{name}.parquet"))
        df = df.drop_duplicates(["model", "task", "setting", "length"])
        names = ("model", "task", "setting", "length", "n", "missing", "unparsed")
        for row in df[list(names)].astype(object).where(df[list(names)].notna(), None).to_dict("records"):
            rows.append({str(key): value for key, value in row.items()})
    return rows


def _datasets(folder: Path, used: list[str]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in used:
        sidecar = table.read_sidecar(folder / "tables" / f"{name}.parquet")
        for data, hashes in sidecar["reuse"]["data"].items():
            known = published.DATASETS[data]
            changed = sidecar["notes"].get("data_changed", {}).get(data, [])
            found[data] = {
                "name": data, "origin": known.origin, "licence": known.licence, "files": hashes, "changed": changed,
            }  # fmt: skip
    return list(found.values())
