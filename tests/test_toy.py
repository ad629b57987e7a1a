"""The toy model: its draws against its laws."""

import math

import alarms
import numpy as np
import pytest

from mirage_jax import scaling, study, table
from sims import toy

SMALL = toy.Config(samples=512, scales=4, lengths=(1, 5), vocabularies=(1000, 10), test_sizes=(20, 100))


def table_of(config):
    return table.frame([{"study": "toy", **row} for row in study.run(toy, config).rows])


@pytest.fixture(scope="module")
def rows():
    return table_of(SMALL)


def test_same_seed_same_rows_and_another_seed_other_rows(rows):
    again = table_of(SMALL)
    assert again.equals(rows)
    other = table_of(toy.Config(**{**vars(SMALL), "seed": 1}))
    simulated = rows["source"] == "simulated"
    assert (other["score"] != rows["score"])[simulated].mean() > 0.3  # many cells are 0 or 1 under any seed
    assert other["score"][~simulated].equals(rows["score"][~simulated])


def test_more_samples_keep_the_earlier_ones(rows):
    more = table_of(toy.Config(**{**vars(SMALL), "samples": 600}))
    keep = ["metric", "length", "scale", "setting", "score", "n"]
    for size in (20, 100):
        assert (
            rows[rows["n"] == size][keep]
            .reset_index(drop=True)
            .equals(more[more["n"] == size][keep].reset_index(drop=True))
        )


@pytest.mark.parametrize("metric", ["exact_match", "token_accuracy"])
def test_simulated_means_follow_their_law(rows, metric):
    closed = rows[(rows["source"] == "closed_form") & (rows["metric"] == metric)].set_index(["scale", "length"])[
        "score"
    ]
    found = rows[(rows["source"] == "simulated") & (rows["metric"] == metric) & (rows["n"] == 512)]
    for _, row in found.iterrows():
        p = closed[row["scale"], row["length"]]
        n = 512 * (1 if metric == "exact_match" else row["length"])  # independent trials in the mean
        assert alarms.counts(round(row["score"] * n), n, p)


def test_multiple_choice_is_a_step_with_equal_questions_and_a_curve_with_spread_ones(rows):
    grade = rows[(rows["metric"] == "multiple_choice_grade") & (rows["source"] == "simulated") & (rows["n"] == 512)]
    equal = grade[grade["setting"].str.startswith("spread=0.0")].sort_values("scale")
    p = scaling.token_success(scaling.cross_entropy(equal["scale"].to_numpy()))
    assert equal["score"].tolist() == (p >= 0.5).astype(float).tolist()
    spread = grade[grade["setting"].str.startswith("spread=1.0")].sort_values("scale")
    law = scaling.multiple_choice_grade(p, 1.0)
    assert alarms.counts(np.rint(spread["score"] * 512), 512, law)


def test_brier_law_by_quadrature(rows):
    p = np.array([0.1, 0.5, 0.9])
    z = np.linspace(-12, 12, 200_001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    for spread in (0.0, 1.0, 2.0):
        margin = np.log(p / (1 - p))[:, None] + spread * z
        slow = np.sum(density / (1 + np.exp(margin)) ** 2, axis=1) * (z[1] - z[0])
        assert scaling.brier_target(p, spread) == pytest.approx(slow, abs=1e-7)


def test_small_tests_show_multiples_of_one_over_n_and_smallest_models_show_zero():
    config = toy.Config(samples=100, scales=2, lengths=(5,), vocabularies=(1000,), test_sizes=(20,))
    rows = table_of(config)
    found = rows[(rows["metric"] == "exact_match") & (rows["source"] == "simulated")]
    assert np.allclose(found["score"] * found["n"].astype(float), np.round(found["score"] * found["n"].astype(float)))
    assert found[(found["scale"] == 1e7) & (found["n"] == 100)]["score"].item() == 0.0  # p^5 = 4.6e-5
