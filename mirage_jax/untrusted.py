"""Text that came from a model, a log or a file name is hostile: how it is shown, and how it is written to CSV.

HTML escaping is the template engine's (see `report`); a name never becomes a path.
"""

import csv
import io
import re
import unicodedata
from typing import Any

# after any quotes and any blanks or zero-width characters, the characters that make a spreadsheet run a cell
_UNSEEN = r"\s\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
_FORMULA = re.compile(f"[{_UNSEEN}]*[=+\\-@\\t\\r＝＋－＠]")


def visible(text: object, limit: int | None = None) -> str:
    """The text on one line with nothing in it that acts: control, format and unpaired characters become `\\x1b`-like codes.

    Covers terminal escapes (C0, C1), bidirectional overrides, zero-width characters, NUL and lone surrogates. With a
    `limit` the middle is cut out of longer text.
    """
    shown = str(text)
    if not shown.isprintable():  # what is printable, as most text is, holds nothing that acts
        shown = "".join(_code(c) if _acts(c) else c for c in shown)
    if limit is not None and len(shown) > limit:
        head = (limit - 1) // 2
        shown = f"{shown[:head]}…{shown[len(shown) - (limit - 1 - head) :]}"
    return shown


def _acts(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")


def _code(character: str) -> str:
    point = ord(character)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def utf8(text: str) -> str:
    """The text with lone surrogates, which have no UTF-8, written as codes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def csv_text(header: list[str], rows: list[list[Any]]) -> str:
    """CSV in which no text cell is a formula: one that would be gets a leading quote mark. Numbers are never touched."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)  # CRLF, as RFC 4180 says: a cell that holds either character is then quoted
    writer.writerow([_guard(cell) for cell in header])
    writer.writerows([[_guard(cell) for cell in row] for row in rows])
    return out.getvalue()


def read_csv_text(text: str) -> list[list[str]]:
    """Rows of what `csv_text` wrote, its quote marks taken off again; every cell as text."""
    return [[_unguard(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline=""))]


def _guard(cell: Any) -> Any:
    if not isinstance(cell, str):
        return "" if _missing(cell) else cell
    cell = utf8(cell)
    return f"'{cell}" if _FORMULA.match(cell.lstrip("'")) else cell


def _missing(cell: Any) -> bool:
    try:
        return cell is None or not cell == cell  # NaN is not itself
    except TypeError:  # and pandas' NA does not say
        return True


def _unguard(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell.lstrip("'")) else cell
