"""How many items and scales: the plan keeps its promise when it is simulated again, and says why where nothing helps."""

import json

import alarms
import numpy as np
import pytest

from mirage_jax import InputError, cli
from mirage_jax.decide.plan import CONFIRM, FALSE, GRID, Design, plan, simulated
from mirage_jax.estimators import clopper_pearson

DESIGN = Design(jump=0.3, width=2.0, decades=4.0, level=0.3, length=1, scatter=0.0)


def planned(**changes):
    given = DESIGN._asdict() | {"scales": (8,)} | changes
    return plan(given.pop("jump"), given.pop("width"), given.pop("decades"), **given)


@pytest.fixture(scope="module")
def table():
    return planned()


def test_a_planned_design_keeps_its_promise_under_fresh_seeds(table):
    row, curves = table.iloc[0], 500
    threshold, smooth, false = (
        round(share * curves) for share in simulated(DESIGN, 8, int(row["items"]), curves, (1, 2))
    )
    # the search stops where 400 fresh curves reached the power: the true one may lie below it by what 400 can hide
    slack = float(clopper_pearson(round(0.9 * CONFIRM), CONFIRM).low)
    assert alarms.counts([threshold, smooth], curves, slack, 1.0)
    assert alarms.counts(false, curves, 0.0, float(clopper_pearson(round(FALSE * CONFIRM), CONFIRM).high))


def test_far_fewer_items_do_not_do(table):
    items = int(table["items"].iloc[0]) // 4
    threshold, _, _ = simulated(DESIGN, 8, items, 200, (3,))
    assert threshold < 0.9


def test_the_rule_of_thumb_is_near(table):
    row = table.iloc[0]
    assert row["items_rule"] == 619  # 225 x .45 x .55 / .09 = 618.75
    assert row["scales_rule"] == 8 and row["items"] in GRID
    assert row["items_rule"] / 4 < row["items"] < row["items_rule"] * 4


def test_a_larger_jump_never_needs_more_items(table):
    assert planned(jump=0.6)["items"].iloc[0] < table["items"].iloc[0] / 2  # a quarter, by the rule of thumb


def test_tokens_stand_in_for_items(table):
    row = planned(length=10).iloc[0]
    assert row["items"] < table["items"].iloc[0] / 2 and row["items_rule"] == 62


def test_equal_seeds_give_equal_curves():
    one, again, other = (simulated(DESIGN, 8, 300, 100, (seed, 8)) for seed in (1, 1, 2))
    assert one == again != other


def test_shares_have_their_exact_intervals(table):
    row = table.iloc[0]
    for name in ("threshold", "smooth", "false"):
        k = row[name] * CONFIRM
        assert k == pytest.approx(round(k)) and row["simulated"] == CONFIRM
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert row["threshold"] >= 0.9 and row["smooth"] >= 0.9 and row["false"] <= FALSE


def test_narrow_rises_need_scales_and_no_items_help():
    df = plan(0.3, 0.5, 4.0, scales=(5, 8, 12))  # 1.5 gaps are 1.5, .86 and .55 decades: nothing to simulate
    assert df["items"].isna().all() and np.isnan(df["threshold"]).all()
    assert df["reason"].iloc[0] == "more scales: fewer than 8 decide no jump"
    narrow = (
        "more scales: a rise of 0.5 decades is within 1.5 gaps of 0.57, narrow by definition; at least 13 are needed"
    )
    assert df["reason"].iloc[1] == narrow
    assert (df["scales_rule"] == 13).all()  # 1 + 1.5 x 4 / .5


def test_a_jump_that_the_rule_never_calls_says_so():
    df = plan(0.04, 2.0, 4.0, scales=(8,))
    assert df["items"].isna().all() and df["reason"].iloc[0].startswith("no rise below 0.05 of the range")


def test_scatter_that_items_cannot_mend_says_so():
    row = planned(scatter=0.5).iloc[0]
    assert row["items"] is not row["items_rule"] and row["reason"].startswith("with 100,000 items a step is found in")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jump": 0.0}, "jump: expected a share of the metric's range in (0, 1], got 0.0"),
        ({"jump": float("nan")}, "jump: expected a share"),
        ({"width": -1.0}, "width: expected decades above 0, got -1.0"),
        ({"decades": float("inf")}, "decades: expected a range above 0, got inf"),
        ({"level": 0.8}, "level: expected a score in [0, 0.7], so that level + jump is at most 1, got 0.8"),
        ({"length": 0}, "length: expected at least one token, got 0"),
        ({"scatter": -0.1}, "scatter: expected a standard deviation in [0, 10), got -0.1"),
        ({"power": 1.0}, "power: expected a probability in (0, 1), got 1.0"),
        ({"scales": ()}, "scales: expected numbers from 3 on, got []"),
        ({"seed": -1}, "seed: expected a whole number from 0 on, got -1"),
    ],
)
def test_bad_input_is_one_line(change, message):
    with pytest.raises(InputError) as raised:
        planned(**change)
    assert str(raised.value).startswith(message)


def test_the_command_prints_a_line_for_each_number_of_scales(capsys, tmp_path):
    narrow = ["plan", "--jump", ".3", "--width", ".1", "--decades", "4"]  # 61 scales: nothing to simulate
    assert cli.main(narrow) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and lines[1].startswith("  8 scales: more scales: a rise of 0.1 decades")
    assert lines[-1].startswith("Rules of thumb: 619 items, 225 mu (1 - mu) / (J^2 L); 61 scales")
    assert cli.main([*narrow, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1 and document["config"]["jump"] == 0.3
    assert [row["scales"] for row in document["plan"]] == [8, 12, 16, 24, 32]
    assert document["plan"][0]["items"] is None and document["plan"][0]["threshold"] is None
    assert cli.main([*narrow, "--json", str(tmp_path / "p.json")]) == 0
    assert json.loads((tmp_path / "p.json").read_text()) == document and capsys.readouterr().out == ""
