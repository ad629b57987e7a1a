"""The words of a verdict: every one formats, over simulated curves of every truth, and keeps what it promises."""

import re

import numpy as np
import pandas as pd
import pytest
from score_tables import RISE, X, rows

from mirage_jax import verdict
from mirage_jax.decide.rule import LABELS, STEPS
from mirage_jax.decide.words import SAYS
from sims import truths

SPOILT = re.compile(r"\b(?:nan|inf|None|NaN|NA)\b|-inf|[0-9]\.[0-9]{5,}|[0-9]\.0 (?:items|scales)|\{|\}")


def simulated(names, curves: int, scales: int, n: int, seed: int) -> pd.DataFrame:
    """Both metrics of curves of each truth, without the standard error of exact match; a curve is a task."""
    draw, parts = np.random.default_rng(seed), []
    for name in names:
        truth = truths.draw_truth(draw, name, curves, scales)
        case = truths.cases(draw, truth, n)
        at = {
            "task": np.repeat([f"{name} {i}" for i in range(curves)], scales),
            "model": np.tile([f"m{j}" for j in range(scales)], curves),
            "scale": 10.0 ** (7 + case.x.ravel()),
            "family": "f",
            "n": n,
            "length": np.repeat(truth.length, scales).astype(int),
        }
        parts.append(pd.DataFrame(at | {"metric": "exact_match", "score": case.rate.ravel()}))
        linear = {"metric": "token_accuracy", "score": case.linear.ravel(), "se": case.linear_se.ravel()}
        parts.append(pd.DataFrame(at | linear))
    return pd.concat(parts, ignore_index=True)


ALL = list(truths.TRUTHS)


@pytest.fixture(scope="module")
def found(count) -> pd.DataFrame:
    """Verdicts on paired and on lone curves, 4 to 12 scales, 50 and 1000 items: hundreds of curves of all truths."""
    sizes = [(4, 200), (6, 1000), (8, 50), (12, 1000)]
    parts = [simulated(ALL, count(30), m, n, seed).assign(study=f"{m} {n}") for seed, (m, n) in enumerate(sizes)]
    df = pd.concat(parts, ignore_index=True)
    alone = df[df["metric"] == "exact_match"].assign(study="alone " + df["study"])
    return verdict(pd.concat([df, alone], ignore_index=True))


def test_every_step_has_words():
    assert {*STEPS, "unknown n", "companion smooth"} == set(SAYS)


def test_every_sentence_formats(found):
    assert len(found) > 600
    for column in ("sentence", "change"):
        spoilt = found.loc[found[column].str.contains(SPOILT), [column, "reason"]]
        assert spoilt.empty, spoilt.drop_duplicates("reason").to_dict("records")
        assert found[column].str.fullmatch(r"[A-Za-z0-9].*\.").all()
        assert found[column].str.len().max() < 400


def test_many_steps_were_seen(found):
    assert set(found["reason"]) <= set(SAYS) and found["label"].isin(LABELS).all()
    assert found["reason"].nunique() >= 14, sorted(found["reason"].unique())


def test_the_label_is_its_steps(found):
    assert (found["label"] == found["reason"].map(STEPS)).all()


def test_what_is_needed_is_a_whole_number_that_is_not_there_yet(found):
    items, scales = found["needs_items"].dropna(), found["needs_scales"].dropna()
    assert (items == np.round(items)).all() and (items > found.loc[items.index, "n_low"]).all()
    assert (scales > found.loc[scales.index, "scales"]).all()
    undecided = found["label"] == "INSUFFICIENT_SCALES"
    assert found.loc[undecided, "needs_scales"].notna().all()


def test_widths_and_brackets_are_in_order(found):
    assert (found["width_low"] <= found["width_high"]).all()
    placed = found.dropna(subset=["jump_from"])
    assert (placed["jump_from"] <= placed["jump_to"]).all()
    told = placed["reason"].str.startswith("jump") | placed["reason"].str.startswith("step not excluded")
    assert (placed["jump_from"] < placed["jump_to"])[told].all(), "words that say near 1B to 1B"
    assert (found["scale_low"] <= found["jump_from"].fillna(np.inf)).all()


def test_the_items_asked_for_a_flat_curve_are_enough():
    flat = np.full(12, 0.5)
    short = verdict(rows("token_accuracy", flat, n=100)).loc[0]
    assert short["reason"] == "flat unresolved"
    # 2 sqrt(2) sqrt(.25 / n) = .05 at n = 800, a little more for the floor under every standard error
    assert 800 <= short["needs_items"] < 1200
    enough = verdict(rows("token_accuracy", flat, n=int(short["needs_items"]))).loc[0]
    assert enough["label"] == "NO_CHANGE"


def test_a_flat_curve_of_unknown_items_says_so_in_words():
    found = verdict(rows("token_accuracy", np.full(12, 0.5), n=None, se=0.05)).loc[0]
    assert found["reason"] == "flat unresolved"
    assert not SPOILT.search(found["sentence"]) and not re.search(r"\b0 items", found["sentence"] + found["change"])


@pytest.mark.parametrize(
    ("kind", "scale", "words"),
    [("params", 10.0**X, "B params"), ("flops", 10.0 ** (X + 12), "FLOPs"), ("loss", 9 - X / 2, "a loss of"),
     ("step", 10.0 ** (X - 6), "step "), (None, 10.0**X, "B")],
)  # fmt: skip
def test_scales_are_written_as_people_write_them(kind, scale, words):
    df = rows("token_accuracy", np.where(X < 9.5, 0.3, 0.7), scale_kind=kind).assign(scale=scale)
    found = verdict(df).loc[0]
    assert found["label"] == "THRESHOLD_SURVIVES" and words in found["sentence"]
    assert not SPOILT.search(found["sentence"])


def test_names_carry_the_options_that_make_them_another_metric():
    found = verdict(rows("subset_accuracy", RISE, setting="K=3;shots=2", se=0.01)).loc[0]
    assert found["sentence"].startswith("subset_accuracy K=3 ")
