"""What dependence does to exact match: laws by hand, draws against laws."""

import dataclasses
import math

import alarms
import numpy as np
import pytest

from mirage_jax import plotting, study, table
from scripts.claims import correlated as claims
from scripts.figures import correlated as figure
from sims import correlated

SMALL = correlated.Config(samples=2000, scales=8, lengths=(2, 10, 20), correlations=(0.3, 0.5, 0.7, 0.9), after=(0.9,))


@pytest.fixture(scope="module")
def found():
    return study.run(correlated, SMALL)


@pytest.fixture(scope="module")
def rows(found):
    return table.frame([{"study": "correlated", **row} for row in found.rows])


def test_effective_length_and_ratio_by_hand():
    epsilon = np.array([1e-9])
    for rho in (0.0, 0.3, 0.9):
        got = correlated.dependence("markov", 10, epsilon, np.full(1, rho))
        assert got["effective_length"] == pytest.approx([1 + 9 * (1 - rho)], rel=1e-6)
    half = np.array([0.5])
    got = correlated.dependence("markov", 4, half, half)
    assert got["independence_ratio"] == pytest.approx([0.5 * 0.75**3 / 0.5**4])
    # a cascade leaves exact match as it is: its ratio comes from the later tokens alone
    got = correlated.dependence("cascade", 3, np.array([0.2]), np.array([1.0]))
    assert got["effective_length"] == pytest.approx([3])
    assert got["independence_ratio"] == pytest.approx([0.8**3 / (0.8 * 0.8**2 * 0.8**3)])
    got = correlated.dependence("beta_mixed", 3, epsilon, np.full(1, 0.5))  # mass 1: sum of 1 / (1 + t)
    assert got["effective_length"] == pytest.approx([1 + 1 / 2 + 1 / 3], rel=1e-6)


def test_length_moves_the_curve_and_leaves_its_width(found):
    """exp(-L (N/c)^alpha) goes from .1 to .9 in log10(ln .1 / ln .9) / .3 decades at every L."""
    widths = found.results["widths"]
    independent = widths.loc[widths["process"] == "independent", "width"]
    assert independent.to_numpy() == pytest.approx(math.log10(math.log(0.1) / math.log(0.9)) / 0.3, abs=1e-3)
    assert np.isnan(correlated.width(np.array([1.0, 10.0]), np.array([0.2, 0.95])))


@pytest.mark.parametrize("engine", ["exact_law", "token_fast"])
def test_draws_follow_the_laws(engine):
    config = dataclasses.replace(SMALL, engine=engine, lengths=(10,), correlations=(0.3,), samples=3000)
    rows = table.frame([{"study": "correlated", **row} for row in study.run(correlated, config).rows])
    where = ["metric", "setting", "length", "scale"]
    law, drawn = (rows[rows["source"] == s].sort_values(where) for s in ("closed_form", "simulated"))
    assert law[where].to_numpy().tolist() == drawn[where].to_numpy().tolist()
    exact = (law["metric"] == "exact_match").to_numpy()
    expected, got, n = (df.to_numpy(float) for df in (law["score"], drawn["score"], drawn["n"]))
    assert alarms.counts(np.round(got * n)[exact], n[exact], np.clip(expected, 0, 1)[exact])
    # a mean of n scores in [0, 1]: Hoeffding's bound, shared by all the cells
    slack = np.sqrt(np.log(2 * exact.size / alarms.ALPHA) / 2 / n)
    assert np.all(np.abs(got - expected) <= slack)


def test_same_seed_same_rows(rows):
    again = table.frame([{"study": "correlated", **row} for row in study.run(correlated, SMALL).rows])
    assert again.equals(rows)


def test_another_strength_or_length_leaves_the_draws_of_the_others(rows):
    config = dataclasses.replace(SMALL, lengths=(10,), correlations=(0.5,))
    fewer = table.frame([{"study": "correlated", **row} for row in study.run(correlated, config).rows])
    keep = ["metric", "setting", "length", "scale", "source", "score"]
    both = fewer[keep].merge(rows[keep], how="left", indicator=True)
    assert (both["_merge"] == "both").all()


def test_claims_and_figure(found, rows):
    ratios, widths = found.results["ratios"], found.results["widths"]
    tables = {"correlated": rows, "correlated_ratios": ratios, "correlated_widths": widths}
    status = {claim.id: claim.measure(*(tables[name] for name in claim.needs)).status for claim in claims.CLAIMS}
    assert status == {
        "independence_assumed": "fails",
        "correlation_flattens": "holds",
        "length_moves_the_curve": "holds",
    }
    with plotting.style():
        drawn = figure.draw(*(tables[name] for name in figure.TABLES))
    points = plotting.points(drawn)
    assert {row[0] for row in points} == {ax.get_title("left") for ax in drawn.axes} and len(drawn.axes) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scales": 1}, "scales >= 2"),
        ({"samples": 0}, "samples >= 1"),
        ({"lengths": (0,)}, "length must be >= 1, got 0"),
        ({"correlations": (1.5,)}, "correlation must lie in"),
        ({"after": (2.0,)}, "after must lie in"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMALL, **change)
