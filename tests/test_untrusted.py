"""Hostile text: shown without effect, and harmless in a spreadsheet; and no code path that would run any (S2, S3, S5, S6)."""

import ast
import csv
import io
import re
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirage_jax.untrusted import csv_text, read_csv_text, visible

CHECKOUT = Path(__file__).resolve().parent.parent
ANY = st.text(st.characters(), max_size=20)  # all of Unicode, lone surrogates too
CLEAN = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
START = st.text("=+-@\t\r\n '\u200b\ufeff\u2060\x00\xa0;,\"a1", max_size=6)

# --- shown ---


def acts(character):
    """C0, C1, bidirectional and zero-width characters, line separators, lone surrogates."""
    point = ord(character)
    return (
        point < 0x20 or 0x7F <= point < 0xA0 or 0x200B <= point <= 0x200F or 0x2028 <= point <= 0x202E
        or 0x2066 <= point <= 0x2069 or point in (0x61C, 0xFEFF) or 0xD800 <= point < 0xE000
    )  # fmt: skip


@pytest.mark.parametrize(
    "point", [p for p in range(0x110000) if acts(chr(p))][::37] + [0, 7, 8, 10, 13, 27, 127, 0x9B, 0x9D, 0x202E]
)
def test_nothing_that_acts_is_shown(point):
    assert not any(map(acts, visible(f"a{chr(point)}b")))


@given(ANY)
def test_shown_text_is_clean_and_stays_as_it_is(text):
    shown = visible(text)
    assert not any(map(acts, shown))
    assert visible(shown) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize(
    "text", ["plain", "Ünïcödé", "日本語", "עברית", "العربية", "🙂", "e\u0301", "a\u00a0b", "$x^2$ <b>&amp;", "[red]"]
)
def test_ordinary_text_is_kept(text):
    assert visible(text) == text


def test_codes_can_be_read():
    assert visible("\x1b[31mred\x07\u202e\udc00\U000e0001") == "\\x1b[31mred\\x07\\u202e\\udc00\\U000e0001"
    assert visible(12) == "12"


@given(ANY, st.integers(1, 30))
def test_a_limit_holds_and_keeps_both_ends(text, limit):
    whole, cut = visible(text), visible(text, limit)
    assert len(cut) <= limit
    assert cut == whole or (head_and_tail := cut.split("…", 1)) and whole.startswith(head_and_tail[0])


def test_a_limit_cuts_the_middle():
    assert visible("0123456789", 5) == "01…89"
    assert visible("0123456789", 10) == "0123456789"


# --- CSV ---


def runs(cell):
    """Whether a spreadsheet would run a text cell: a formula character first, after blanks and zero-width characters."""
    blank = {"Zs", "Zl", "Zp", "Cf", "Cc"}
    rest = cell
    while rest and rest[0] not in "\t\r" and unicodedata.category(rest[0]) in blank:
        rest = rest[1:]
    return rest[:1] in {"=", "+", "-", "@", "\t", "\r"}


@given(st.lists(st.lists(CLEAN | START, min_size=2, max_size=2), max_size=4))
def test_csv_round_trip_and_no_cell_runs(rows):
    text = csv_text(["a", "b"], rows)
    assert read_csv_text(text) == [["a", "b"], *rows]
    assert not any(runs(cell) for row in csv.reader(io.StringIO(text, newline="")) for cell in row)


@pytest.mark.parametrize(
    "cell",
    ["=1+1", '=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\u200b=1", "\ufeff-1", "\u00a0@x",
     "\x00=1", "\u2061=1", "\u00ad=1", "＝1", "'=1", "''=1", "\n=1", "-", "=cmd|' /C calc'!A0"],
)  # fmt: skip
def test_formulas_are_text_and_come_back(cell):
    text = csv_text(["h"], [[cell]])
    (written,) = list(csv.reader(io.StringIO(text, newline="")))[1]
    assert not runs(written)
    assert read_csv_text(text)[1] == [cell]


@pytest.mark.parametrize("cell", ["it's", "'quoted'", "", "a=b", "1-2", "x\ry", "x\r\ny", "\r", 'a,b;"c"', "x\x00y"])
def test_other_text_is_left_alone(cell):
    text = csv_text(["h", "i"], [[cell, "end"]])
    assert read_csv_text(text)[1] == [cell, "end"]


@pytest.mark.parametrize(
    ("number", "cell"),
    [(-0.5, "-0.5"), (-3, "-3"), (np.float64(-0.25), "-0.25"), (np.int64(-7), "-7"), (1e-300, "1e-300"),
     (float("-inf"), "-inf"), (None, ""), (float("nan"), ""), (pd.NA, ""), (pd.NaT, "")],
)  # fmt: skip
def test_numbers_are_never_touched(number, cell):
    assert csv_text(["h", "i"], [[number, 1]]) == f"h,i\r\n{cell},1\r\n"


def test_a_header_is_guarded_too():
    assert csv_text(["=a"], []) == "'=a\r\n"


def test_lone_surrogates_are_written_as_codes():
    assert csv_text(["h"], [["\udc00"]]) == "h\r\n\\udc00\r\n"


# --- the source ---

SOURCES = [
    path for part in ("mirage_jax", "sims", "train", "scripts") for path in sorted((CHECKOUT / part).rglob("*.py"))
]
INSTRUMENT = [path for path in SOURCES if path.is_relative_to(CHECKOUT / "mirage_jax")]
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
UNPICKLES = {"pickle", "cPickle", "dill", "shelve", "marshal", "joblib", "cloudpickle"}


def calls(path):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def identify(path):
    return path.relative_to(CHECKOUT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_nothing_runs_or_unpickles_text(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & UNPICKLES
    for call in calls(path):
        name = ast.unparse(call.func)
        assert name not in RUNS_TEXT | {"os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}, f"line {call.lineno}"
        assert not name.endswith((".read_pickle", "torch.load")), f"line {call.lineno}"
        for keyword in call.keywords:
            off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            assert keyword.arg not in ("allow_pickle", "shell") or off, f"line {call.lineno}"


@pytest.mark.parametrize("path", INSTRUMENT, ids=identify)
def test_one_way_out_to_the_terminal(path):
    if path.name == "progress.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("print", "os.write", "pprint", "pprint.pprint"), f"line {node.lineno}"
            assert not re.match(r"sys\.(__)?std(out|err)(__)?\.(buffer\.)?write", name), f"line {node.lineno}"
            assert not re.match(r"(logging\.|warnings\.warn)", name), f"line {node.lineno}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert not ast.unparse(node).startswith(("import rich", "from rich")), f"line {node.lineno}"


def test_the_instrument_never_imports_the_experiments():
    rules = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "TID251" in rules["select"]
    assert {"sims", "train", "scripts"} <= set(rules["flake8-tidy-imports"]["banned-api"])
    for path in INSTRUMENT:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.split(".")[0] for name in names} & {"sims", "train", "scripts", "tests"}, identify(path)


def test_ruff_refuses_such_an_import():
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", "mirage_jax/x.py", "-"]
    done = subprocess.run(command, cwd=CHECKOUT, input='"""X."""\n\nimport sims\n', capture_output=True, text=True)
    assert done.returncode == 1 and "TID251" in done.stdout
