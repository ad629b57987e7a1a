"""What `verdict` refuses of a table, by row and column; and hostile and random tables, which break nothing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from score_tables import PAIR, RISE, edited, pair, rows, same

from mirage_jax import InputError, verdict
from mirage_jax.decide.rule import LABELS

# --- what is refused, and where ---

REFUSED = [
    ("score", "0.4", r"row 5, column score: expected a number, got '0.4'"),
    (
        "score",
        40.0,
        r"row 5, column score: expected exact_match in \[0, 1\], got 40; if these are percents divide by 100",
    ),
    ("score", -0.1, r"row 5, column score"),
    ("score", np.inf, r"row 5, column score: expected a finite number"),
    ("score", None, r"row 5, column score: expected a number \(null only where n = 0\)"),
    ("scale", -1e9, r"row 5, column scale: expected a number > 0"),
    ("scale", np.inf, r"row 5, column scale: expected a finite number"),
    ("scale", "7B", r"row 5, column scale: expected a number, got '7B'"),
    ("n", -1, r"row 5, column n: expected a count >= 0"),
    ("n", 10.5, r"row 5, column n: expected a whole number"),
    ("n", "many", r"row 5, column n: expected a whole number, got 'many'"),
    ("n", 1e19, r"row 5, column n"),
    ("n", True, r"row 5, column n: expected a whole number, got True"),
    ("task", None, r"row 5, column task: expected text"),
    ("task", 3, r"row 5, column task: expected text, got 3"),
    ("model", None, r"row 5, column model"),
    ("metric", "", r"row 5, column metric"),
]


@pytest.mark.parametrize(("column", "value", "message"), REFUSED, ids=[f"{c}={v}" for c, v, _ in REFUSED])
def test_a_bad_cell_is_refused_by_row_and_column(column, value, message):
    with pytest.raises(InputError, match=message):
        verdict(edited(pair(), 5, column, value).set_index(pd.Index(range(100, 124))))


@pytest.mark.parametrize(
    ("column", "value"),
    [("se", -0.1), ("se", "small"), ("low", 2.0), ("high", -1.0), ("missing", -1), ("chance", np.inf), ("seed", 0.5),
     ("length", -2), ("scale_kind", "parameters"), ("source", "mine"), ("setting", "no option"), ("setting", ";;")],
)  # fmt: skip
def test_a_bad_optional_cell_is_refused_by_row_and_column(column, value):
    df = pair()
    df[column] = None if column not in df else df[column]
    with pytest.raises(InputError, match=f"row 5, column {column}"):
        verdict(edited(df, 5, column, value))


@pytest.mark.parametrize("absent", ["task", "metric", "family", "model", "scale", "score", "n"])
def test_an_absent_column_is_named(absent):
    with pytest.raises(InputError, match=f"missing {absent}"):
        verdict(pair().drop(columns=absent))


@pytest.mark.parametrize("given", [pd.DataFrame(), pair()[:0], None, [], 5, "scores.csv"])
def test_no_table_at_all(given):
    with pytest.raises(ValueError):
        verdict(given)


def test_one_cell_twice_is_refused_naming_both_rows():
    df = pair()
    with pytest.raises(InputError, match=r"rows 3 and 24 .*m3"):
        verdict(pd.concat([df, df.iloc[[3]].assign(score=0.5)]))


def test_a_column_twice_is_refused():
    df = pair()
    with pytest.raises(InputError, match="score"):
        verdict(pd.concat([df, df[["score"]]], axis=1))


# --- hostile and random tables ---

HOSTILE = [
    "{metric}",
    "%s",
    "<script>alert(1)</script>",
    "a\nb",
    "\x1b[31m",
    "'; DROP",
    "\u202e",
    "\x00",
    "💥" * 500,
    " ",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_only_text(text):
    places = ["task", "family", "study"]
    df = pair().assign(**dict.fromkeys(places, text))
    found = verdict(df.assign(model=text + df["model"]))
    assert list(found["label"]) == ["METRIC_INDUCED", "SMOOTH"]
    assert (found[places] == text).all(axis=None)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_of_metrics_and_settings(text):
    setting = f"note={text}".replace(";", ",")  # what parts one option from the next
    df = pd.concat([pair().assign(setting=setting), rows(text, RISE, setting=setting, se=0.01)])
    found = verdict(df, facts={text: "nonlinear,higher,0..1"})
    assert list(found["label"])[1:] == ["SMOOTH"] * 2 and found["sentence"].iloc[2].startswith(text)


CELL_KEY = ("task", "metric", "model", "seed", "length")
CELL = st.fixed_dictionaries(
    {
        "task": st.sampled_from("ab"),
        "metric": st.sampled_from([*PAIR, "nll", "brier_half", "vibe"]),
        "model": st.sampled_from([f"m{j}" for j in range(9)]),
        "score": st.one_of(st.integers(0, 1000).map(lambda k: k / 1000), st.just(None)),
        "n": st.sampled_from([None, 0, 1, 50, 1000, 10**6]),
        "se": st.sampled_from([None, 0.0, 1e-300, 0.02, 0.5]),
        "missing": st.sampled_from([None, 0, 3, 1000]),
        "seed": st.sampled_from([None, 0, 1]),
        "chance": st.sampled_from([None, 0.25, 1.0, 2.0]),
        "length": st.sampled_from([None, None, None, 0, 5]),
    }
)


@given(
    cells=st.lists(CELL, min_size=1, max_size=40, unique_by=lambda c: tuple(map(c.get, CELL_KEY))),
    scales=st.lists(st.sampled_from([0.0, 1.0, 1e7, 1e7 + 1, 3e7, 1e8, 1e9, 1e10, 1e30, 1e-300, None]), min_size=9, max_size=9),
    kind=st.sampled_from(["params", "loss", "error_rate", "step", None]),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=25, phases=[Phase.explicit, Phase.generate])  # small as they come
def test_no_small_table_breaks_it_and_its_order_does_not_matter(cells, scales, kind, seed):
    df = pd.DataFrame([c | {"scale": scales[int(c["model"][1:])], "family": "f", "scale_kind": kind} for c in cells])
    df.loc[df["score"].isna(), "n"] = 0
    try:
        found = verdict(df)
    except ValueError as error:
        with pytest.raises(type(error)):
            verdict(df[::-1])
        return
    again = verdict(df.sample(frac=1, random_state=seed))
    same(found, again, check_exact=False, rtol=1e-6, atol=1e-9, check_dtype=False)
    assert found["label"].isin(LABELS).all() and found["sentence"].str.len().gt(10).all()
