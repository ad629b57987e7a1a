"""Text metrics against the error rate: laws by hand, values of the specification, and what the ledger says of them."""

import dataclasses
import math

import alarms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirage_jax import plotting, study, sweep, table
from mirage_jax.outcomes import Tokens
from mirage_jax.table import select
from scripts.claims import sequence as claims
from scripts.figures import rouge_l_sum, sequence_sharpness
from scripts.figures import sequence_metrics as curves
from sims import sequence_metrics, sequences
from sims.sharpness import sharpness

SMALL = dataclasses.replace(sequence_metrics.PRESETS["quick"], samples=512, long_samples=64, rouge_samples=64)
FINE = np.linspace(0, 0.5, 2001)


@pytest.fixture(scope="module")
def found():
    return study.run(sequence_metrics, SMALL)


@pytest.fixture(scope="module")
def tables(found):
    rows = table.frame([{"study": "sequence_metrics", **row} for row in found.rows])
    return {"sequence_metrics": rows, "sequence_metrics_sharpness": found.results["sharpness"]}


def drawn(tables, metric, length, **options):
    rows = tables["sequence_metrics"]
    rows = rows[(rows["source"] == "simulated") & (rows["metric"] == metric) & (rows["length"] == length)]
    return select(rows, **options).set_index("scale").sort_index()


@pytest.mark.parametrize("length", [1, 2, 5, 20])
def test_scores_follow_their_closed_forms(tables, length):
    """Exact match, token and prefix accuracy exactly; edit distance and overlap as far as 1,000 tokens are many."""
    rate = np.array(SMALL.rates)
    exact = drawn(tables, "exact_match", length, process="independent", vocabulary=1000)
    assert alarms.counts(
        np.rint(exact["score"] * exact["n"].astype(float)), exact["n"].astype(int), (1 - rate) ** length
    )
    right = drawn(tables, "token_accuracy", length, process="independent", vocabulary=1000)
    hits = np.rint(right["score"] * right["n"].astype(float) * length)
    assert alarms.counts(hits, right["n"].astype(int) * length, 1 - rate)
    for metric, law in (
        ("token_edit_distance", length * rate),
        ("rouge_l", 1 - rate),
        ("lcs_length", length * (1 - rate)),
    ):
        rows = drawn(tables, metric, length, process="independent", vocabulary=1000)
        spread = np.sqrt(rate * (1 - rate) * (length if metric != "rouge_l" else 1 / length) / rows["n"].astype(float))
        slack = alarms.sigmas(rate.size) * spread + length**2 / 1000
        assert np.all(np.abs(rows["score"] - law) <= slack), metric


def test_a_cascade_makes_edits_a_sum_of_powers(tables):
    """Science 2.3: sum over l of 1 - (1 - epsilon)^l, not linear."""
    rows = drawn(tables, "token_edit_distance", 20, process="cascade", vocabulary=1000)
    law = np.array([sum(1 - (1 - rate) ** l for l in range(1, 21)) for rate in SMALL.rates])
    slack = (
        alarms.sigmas(law.size) * np.nan_to_num(rows["se"].astype(float)) + 0.2
    )  # matches by chance among 1,000 tokens
    assert np.all(np.abs(rows["score"] - law) <= slack)


def test_rouge_l_sum_of_edits_is_that_of_the_specification(tables):
    """Science 2.3: mixed noise, one reference, F1 of .966, .926, .872, .734 at .05, .1, .2, .4."""
    options = {
        "process": "insert_delete_substitute",
        "vocabulary": 1000,
        "sentences": 1,
        "deviation": 0.0,
        "several": "best",
    }
    rows = drawn(tables, "rouge_l_sum", 20, **options).loc[[0.05, 0.1, 0.2, 0.4]]
    slack = alarms.sigmas(4) * rows["se"].astype(float) + 0.005  # the listed values were drawn too
    assert np.all(np.abs(rows["score"] - [0.966, 0.926, 0.872, 0.734]) <= slack)


@pytest.mark.parametrize(("references", "laws"), [(5, (0.966, 0.932, 0.872, 0.788)), (1, (0.508, 0.487, 0.473, 0.391))])
def test_stitched_references_cover_a_share_of_the_answer(tables, references, laws):
    """Science 2.3: about (1 - epsilon) (1 - deviation^R), a few more by chance; listed at 0, .05, .1 and .2."""
    options = {"process": "independent", "vocabulary": 1000, "sentences": 1, "several": "stitched", "deviation": 0.5}
    rows = drawn(tables, "rouge_l_sum", 20, **options, references=references).loc[[0.0, 0.05, 0.1, 0.2]]
    noise = alarms.sigmas(4) * rows["se"].astype(float)
    assert np.all(np.abs(rows["score"] - np.array(laws)) <= noise + 0.02)  # the values come from a modest simulation
    right = (1 - np.array([0.0, 0.05, 0.1, 0.2])) * (1 - 0.5**references)
    assert np.all((right - noise <= rows["score"]) & (rows["score"] <= right + noise + 0.025))


def test_stitching_counts_no_more_tokens_than_a_reference_has():
    """Answer 0 1 0 1 against 0 1 and 1 0: three tokens lie on one of the two, but two can be right: 2 2 / (2 + 4)."""
    one = jnp.zeros((3, 2), int), jnp.zeros((3, 4), int)
    outcome = Tokens(
        jnp.array([[0, 1], [0, 1], [1, 0]]), jnp.full(3, 2), jnp.tile(jnp.array([0, 1, 0, 1]), (3, 1)), jnp.full(3, 4),
        target_sentence=one[0], predicted_sentence=one[1],
    )  # fmt: skip
    best, best_of_two, stitched, stitched_two = jax.jit(sequences._score_references, static_argnums=1)(outcome, (2,))
    assert [float(x) for x in (best, best_of_two, stitched, stitched_two)] == pytest.approx([2 / 3] * 4)


def test_bleu_is_a_power_and_unsmoothed_bleu_is_below(tables):
    """(1 - epsilon)^2.5 of a corpus; without a match of four tokens an unsmoothed answer scores 0."""
    smooth, none = (
        drawn(tables, "bleu_4", 5, process="independent", vocabulary=1000, smooth=how) for how in ("exp", "none")
    )
    assert (none["score"] <= smooth["score"]).all() and none["score"][0.4] < smooth["score"][0.4]
    rows = tables["sequence_metrics_sharpness"]
    long = rows[(rows["metric"] == "bleu_4") & (rows["length"] == 100) & (rows["source"] == "simulated")]
    power = select(long, process="independent", vocabulary=1000, smooth="none").iloc[0]
    assert abs(power["elasticity"] - 2.5) <= alarms.sigmas() * power["elasticity_se"] + 0.05  # sentences, not a corpus


def test_all_metrics_see_the_same_answers(tables):
    """By tokens seen nowhere else, one alphabet and no edits: scores that must agree do, to the last digit."""
    same = {"process": "independent", "vocabulary": 1000}
    edits, share = (drawn(tables, f"token_edit_distance{name}", 20, **same) for name in ("", "_normalised"))
    assert np.allclose(edits["score"], 20 * share["score"], rtol=1e-6)
    assert drawn(tables, "rouge_1", 20, **same)["score"].equals(drawn(tables, "token_f1", 20, **same)["score"])
    digits = {"process": "independent", "vocabulary": 10}
    exact, caseless = (drawn(tables, metric, 5, **digits) for metric in ("numeric_match", "exact_match_caseless"))
    assert (exact["score"] >= caseless["score"]).all()  # an equal number is near enough


def test_draws_depend_on_the_seed_and_on_the_cell_alone():
    def counts(**changes):
        (job, *_) = sequence_metrics.jobs(dataclasses.replace(SMALL, samples=256, **changes))
        return sweep.run([job])["text/20"]

    first = counts()
    assert np.array_equal(first, counts())
    assert not np.array_equal(first, counts(seed=1))
    cells = sequence_metrics.cells(SMALL)["text/20"]
    kept = [i for i, cell in enumerate(cells) if cell.process != "independent" or cell.length != 2]
    assert np.array_equal(first[kept], counts(lengths=(1, 5, 10, 20, 50, 100)))


@pytest.mark.parametrize("length", [1, 2, 5, 20])
def test_sharpness_of_known_curves(length):
    """1 for a line; (L / 2) / (1 - 2^-L) for (1 - epsilon)^L, as far as secants of a grid are tangents; elasticity L."""
    assert sharpness(FINE, 3 - 2 * FINE).sharpness == pytest.approx(1)
    power = sharpness(FINE, (1 - FINE) ** length)
    assert power.sharpness == pytest.approx(length / 2 / (1 - 2.0**-length), rel=length * 2e-4)
    assert power.elasticity == pytest.approx(length, rel=1e-9)
    assert power.steepest_from == 0 or length == 1
    assert power.share == pytest.approx((0.95**length - 0.9**length) / (1 - 0.5**length), rel=1e-9)
    assert math.isnan(power.sharpness_low) and math.isnan(power.sharpness_high)


def test_sharpness_of_a_flat_curve_is_not_known():
    assert math.isnan(sharpness(SMALL.rates, [1.0] * len(SMALL.rates)).sharpness)


@pytest.mark.parametrize("rates", [(0.0, 0.05, 0.1), (0.05, 0.1, 0.5), (0.0, 0.1, 0.05, 0.5), (0.0, 0.2, 0.5)])
def test_sharpness_refuses_other_rates(rates):
    with pytest.raises(ValueError, match="expected rates rising from 0 to 0.5, 0.05 and 0.1 among them"):
        sharpness(rates, [1.0] * len(rates))


def test_claims_and_figures(tables):
    status = {claim.id: claim.measure(*(tables[name] for name in claim.needs)).status for claim in claims.CLAIMS}
    assert status["rouge_l_sum_falls"] != "holds"
    assert status["rouge_l_linear"] == status["exact_match_elasticity"] == status["edit_distance_linear"] == "holds"
    for figure in (curves, sequence_sharpness, rouge_l_sum):
        with plotting.style():
            of = figure.draw(*(tables[name] for name in figure.TABLES))
        points = plotting.points(of)
        assert {row[0] for row in points} == {ax.get_title("left") for ax in of.axes}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": 1}, "expected samples >= 2"),
        ({"rates": (0.0, 0.1, 0.5)}, "expected rates that rise from 0 to 0.5"),
        ({"rates": (0.0, 0.05, 0.1, 0.5, 0.6)}, "expected rates that rise from 0 to 0.5"),
        ({"lengths": (0,)}, "expected lengths from 1 to 100"),
        ({"vocabularies": (1,)}, "expected vocabularies from 2 to 1000"),
        ({"correlation": 1.5}, "correlation must lie in"),
        ({"after": -0.1}, "after must lie in"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMALL, **change)
