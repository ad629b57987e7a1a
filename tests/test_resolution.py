"""Few test items and few models: laws against simulation, planned tests, families, figures and claims."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from alarms import counts, histogram, sigmas
from scipy import stats

from mirage_jax import plotting, scaling, sweep, table
from mirage_jax.emergence import emergence_score
from mirage_jax.study import run
from scripts.claims import resolution as claims
from scripts.claims.record import record
from scripts.figures import resolution as figure
from scripts.figures import resolution_scales
from sims import families, measured, planned, resolution

SMALL = resolution.Config(
    tests=2000, scales=6, families=(4, 8, 16), lengths=(1, 5), test_sizes=(20, 100), small=4, large=(1, 2, 8)
)


@pytest.fixture(scope="module")
def counted():
    return sweep.run(resolution.jobs(SMALL))


@pytest.fixture(scope="module")
def output(counted):
    return resolution.rows(SMALL, counted)


def test_curves_by_hand():
    curves = np.array([[0.0, 0.0, 0.1, 0.5], [0.2, 0.2, 0.2, 0.2], [0.0, 0.0, 0.0, 0.0], [0.4, 0.1, 0.3, 0.2]])
    step, leads_to = measured.largest_steps(curves)
    assert step == pytest.approx([0.8, np.nan, np.nan, 1.0], nan_ok=True)
    assert leads_to[[0, 3]].tolist() == [3, 1]
    assert measured.onsets(curves).tolist() == [2, 0, 4, 0]
    assert measured.emergence_scores(curves) == pytest.approx([5, 0, 0, -1.5])
    assert np.isposinf(measured.emergence_scores(np.array([[0.0, 0, 0, 0, 1]])))[0]


def test_emergence_scores_of_many_curves_are_those_of_each():
    draw = np.random.default_rng(0)
    ability = np.array([0.0, 0.01, 0.02, 0.05, 0.3, 0.6])
    for n in (5, 20, 1000):
        curves = np.concatenate([measured.measured(draw, ability, n, 200), np.ones((1, 6)), np.zeros((1, 6))])
        assert measured.emergence_scores(curves, n) == pytest.approx([emergence_score(y, n=n) for y in curves])
        plain = [emergence_score(y, zero_median="inf") for y in curves]
        assert measured.emergence_scores(curves) == pytest.approx(plain)


def test_tally_adds_up_and_is_read_back():
    curves = measured.measured(np.random.default_rng(1), np.array([0.0, 0.05, 0.2, 0.4]), 10, 500)
    whole = measured.read(np.concatenate(measured.tally(curves, 10, 0.5)), 4)
    halves = [np.concatenate(measured.tally(half, 10, 0.5)) for half in (curves[:123], curves[123:])]
    assert all(np.array_equal(a, b) for a, b in zip(whole, measured.read(sum(halves), 4), strict=True))
    steps = measured.largest_steps(curves)[0]
    assert whole.jumps[0] == np.sum(steps > 0.5) and whole.flat[0] == np.isnan(steps).sum()
    assert whole.zero.tolist() == (curves == 0).sum(0).tolist() and whole.zero[0] == 500
    assert whole.step.sum() + whole.flat[0] == whole.floored.sum() == whole.onset.sum() == 500
    looks = measured.looks(whole)
    scores = measured.emergence_scores(curves, 10)
    for q in (5, 50, 95):
        exact = np.quantile(scores, q / 100, method="inverted_cdf")
        assert looks[f"emergence_q{q:02d}"] == pytest.approx(exact, abs=measured.NODE / 2 + 1e-9)


def test_quantiles_of_nothing_are_not_known():
    assert all(math.isnan(v) for v in measured.quantiles("x", np.zeros(3, int), np.arange(3.0)).values())
    assert measured.quantiles("x", np.array([1, 0, 9]), np.arange(3.0)) == {"x_q05": 0.0, "x_q50": 2.0, "x_q95": 2.0}


def test_share_of_zeros_and_onset_follow_their_laws(output, counted):
    zeros = output.results["zeros"]
    assert len(zeros) == 2 * 2 * 6
    assert counts(np.rint(zeros["share"] * zeros["tests"]), zeros["tests"], zeros["law"])
    params = families.evenly(6)
    for n in SMALL.test_sizes:
        for length, row in zip(SMALL.lengths, counted[f"tests/6/{n}"], strict=True):
            law = measured.onset_law(SMALL.success(params) ** length, n)
            assert histogram(measured.read(row, 6).onset, law)


def test_onset_law_by_hand():
    assert measured.onset_law(np.array([0.5, 0.5, 1.0]), 1) == pytest.approx([0.5, 0.25, 0.25, 0])
    assert measured.zero_law(0.01, 100) == pytest.approx(0.99**100)


@pytest.mark.parametrize("length", [1, 5])
def test_seen_from_is_where_a_test_shows_it_with_that_power(length):
    for n in (20, 1000):
        scale = resolution.seen_from(SMALL, length, n)
        p = scaling.token_success(scaling.cross_entropy(scale))
        assert measured.zero_law(p**length, n) == pytest.approx(1 - SMALL.power)


def test_planned_sizes_by_hand():
    # science: n for one success with 95%, and for a relative standard error of 10%
    known = {(0.5, 5): (95, 3100), (0.5, 10): (3067, 102_300), (0.7, 10): (105, 3441), (0.9, 20): (24, 723)}
    for (p, length), (seen, precise) in known.items():
        by_kind = {plan.kind: plan.items for plan in planned.plans((p,), (length,), 0.95, 0.1, 0.1)}
        assert (by_kind["seen"], by_kind["precise"]) == (seen, precise)


def test_planned_tests_have_the_stated_power_by_law_and_in_simulation(output):
    plans = resolution.plans(SMALL)
    rows = output.results["plans"]
    for plan in plans:
        n, a = plan.items, plan.ability
        if plan.kind == "seen":
            assert plan.power >= 0.95 and 1 - (1 - a) ** (n - 1) < 0.95  # no smaller test does
        elif plan.kind == "above_chance":
            chance = SMALL.chance**plan.length
            assert plan.power >= 0.95 and stats.binom.sf(plan.least - 1, n, chance) <= 0.05
        else:
            assert math.sqrt((1 - a) / (a * n)) <= 0.1
    assert counts(np.rint(rows["share"] * rows["tests"]), rows["tests"], rows["law"])
    assert (rows["low"] <= rows["share"]).all() and (rows["share"] <= rows["high"]).all()
    precise = [plan for plan in plans if plan.kind == "precise"]
    errors = rows.loc[rows["kind"] == "precise", "relative_error"]
    for plan, error in zip(precise, errors, strict=True):
        square = (1 - plan.ability) / (plan.ability * plan.items)
        excess = (1 - 6 * plan.ability * (1 - plan.ability)) / (plan.items * plan.ability * (1 - plan.ability))
        assert abs(error**2 - square) <= sigmas() * square * math.sqrt((2 + excess) / SMALL.tests)


def test_faint_abilities_are_drawn_exactly_enough():
    # 1.4e9 items of ability 2.2e-9, the largest plan of the quick preset: float64 holds 1 - a to 5e-8 of a
    (plan,) = (p for p in planned.plans((0.136,), (10,), 0.95, 0.1, 0.9) if p.kind == "seen")
    found = planned.count(np.array([1, 2]), (plan.ability, plan.items, plan.least, plan.most), 20_000)
    assert counts(found[0], 20_000, plan.power)


def test_families_hold_the_known_scores(output):
    rows = output.results["families"].set_index(["design", "number", "length"])
    assert rows.loc[("even", 8, 1), "emergence"] == pytest.approx(6.54, abs=0.005)  # science, 4.3
    assert rows.loc[("even", 8, 5), "emergence"] == pytest.approx(5.49, abs=0.005)
    # the paper's sizes: p = .5032, .6292, .7533, .8990 and p^5 = .0323, .0986, .2426, .5873
    assert rows.loc[("published", 4, 1), "last_step"] == pytest.approx((0.8990 - 0.7533) / (0.8990 - 0.5032), abs=5e-4)
    assert rows.loc[("published", 4, 5), "last_step"] == pytest.approx((0.5873 - 0.2426) / (0.5873 - 0.0323), abs=5e-4)
    for design, rises in (("few_large", False), ("dropped", True)):
        steps = rows.loc[design].xs(5, level="length")["last_step" if rises else "step"].to_numpy()
        assert np.all((np.diff(steps) > 0) == rises)


def test_family_grids():
    few = families.few_large(4, 1e9, 2)
    assert few == pytest.approx([1e7, 10 ** (7 + 2 / 3), 10 ** (7 + 4 / 3), 1e9, 10**10.5, 1e12])
    sizes = families.anywhere(np.random.default_rng(0), 4000, 3)
    assert sizes.shape == (4000, 3) and np.all(np.diff(sizes) >= 0) and sizes.min() >= 1e7 and sizes.max() <= 1e12
    middle = (np.log10(sizes[:, 1]) - 7) / 5  # Beta(2, 2): mean 1/2, variance 1/20
    assert abs(middle.mean() - 0.5) <= sigmas() * math.sqrt(1 / 20 / 4000)


def test_rows_are_one_table_and_their_scores_lie_on_the_grid(output):
    df = table.frame([{"study": "resolution", **row} for row in output.rows])
    drawn = df[(df["source"] == "simulated") & (df["metric"] == "exact_match")]
    assert len(drawn) == 6 * 2 * 2 and drawn["low"].notna().all()
    k = drawn["score"] * drawn["n"].astype(float)
    assert np.allclose(k, np.round(k))
    law = df[(df["source"] == "closed_form")].set_index(["metric", "length", "scale"])["score"]
    expected = [
        law["exact_match", length, scale] for length, scale in zip(drawn["length"], drawn["scale"], strict=True)
    ]
    assert counts(np.round(k), drawn["n"].astype(int), np.array(expected))


def test_shards_add_up_and_runs_repeat(counted, monkeypatch):
    monkeypatch.setattr(sweep, "PART", 1 << 19)
    jobs = resolution.jobs(SMALL)
    assert len(sweep.plan(jobs)) > 4
    shards = [sweep.run(jobs, shard=(i, 2)) for i in (1, 2)]
    for name, whole in counted.items():
        held = [shard[name] for shard in shards if name in shard]
        assert np.array_equal(sum(held), whole)


def test_draws_go_by_value(counted):
    other = dataclasses.replace(SMALL, lengths=(5, 10), test_sizes=(100, 300), families=(4,))
    again = sweep.run([job for job in resolution.jobs(other) if job.name in ("tests/6/100", "random/4", "one/100/5")])
    assert np.array_equal(again["tests/6/100"][0], counted["tests/6/100"][1])
    assert np.array_equal(again["random/4"][0], counted["random/4"][1])
    assert np.array_equal(again["one/100/5"], counted["one/100/5"])
    reseeded = resolution.jobs(dataclasses.replace(SMALL, seed=1))
    (job,) = (job for job in reseeded if job.name == "tests/6/100")
    assert not np.array_equal(sweep.run([job])["tests/6/100"], counted["tests/6/100"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tests": 0}, "tests >= 1"),
        ({"test_sizes": (20, 0)}, "test sizes >= 1"),
        ({"test_sizes": ()}, "test sizes >= 1"),
        ({"lengths": (0, 5)}, "lengths >= 1"),
        ({"lengths": ()}, "lengths >= 1"),
        ({"scales": 2}, "at least 3 models"),
        ({"large": (0,)}, "1 large"),
        ({"chance": 1.5}, "chance must lie in (0, 1), got 1.5"),
        ({"power": 1.0}, "power must lie in (0, 1), got 1.0"),
        ({"relative_error": 1e-9}, "relative_error must lie in (0.001, 1)"),
        ({"jump": float("nan")}, "jump must lie in (0, 1), got nan"),
        ({"boundary": 1e13}, "boundary must lie in (1e7, 1e12)"),
        ({"lengths": (20,)}, "abilities p^L in [1e-12, 1)"),
        ({"c": float("inf")}, "expected finite c and alpha"),
        ({"alpha": 0.3}, "alpha must be negative"),
    ],
)
def test_refusals_are_one_line(change, said):
    with pytest.raises(ValueError) as error:
        dataclasses.replace(SMALL, **change)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_figures_draw_and_claims_decide(output):
    tables = {f"resolution_{name}": frame for name, frame in output.results.items()}
    with plotting.style():
        for module, axes in ((figure, 4), (resolution_scales, 6)):
            drawn = module.draw(*(tables[name] for name in module.TABLES))
            assert len(drawn.axes) == axes and len(plotting.points(drawn)) > 50
            assert plotting.render(drawn, "png")
    own = [claim for claim in claims.CLAIMS if set(claim.needs) <= set(tables)]
    assert len(own) == 5
    told = {claim.id: record(claim, tables) for claim in own}
    assert told["scales_emergence_score"]["status"] == "fails"  # 4 and 16 models: 2.24 and 12.75
    assert told["resolution_items"]["status"] == "mixed"  # 64,440 items for the smallest model at L = 5
    assert told["scales_few_large"]["status"] == "holds"


def test_claims_without_what_they_speak_of_are_not_testable(output):
    tables = {f"resolution_{name}": frame.iloc[:0] for name, frame in output.results.items()}
    own = [claim for claim in claims.CLAIMS if set(claim.needs) <= set(tables)]
    assert {record(claim, tables)["status"] for claim in own} == {"not testable here"}


def test_claims_refuse_to_count_onsets_that_no_test_has():
    tests = pd.DataFrame({"models": 16, "length": 5, "n": [20, 100], "onset_q50": [np.nan, 1e8], "tests": 10})
    assert record(claims.CLAIMS[1], {"resolution_tests": tests})["status"] == "not testable here"


def test_run_in_memory_is_the_sweep(output):
    again = run(resolution, dataclasses.replace(SMALL))
    assert all(again.results[name].equals(frame) for name, frame in output.results.items())
