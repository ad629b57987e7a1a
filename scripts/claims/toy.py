"""Claims of the toy model (section 2 of the paper)."""

import numpy as np
import pandas as pd

from mirage_jax.table import select
from scripts.claims.record import Claim, Found, Status, share

DATA = "simulated"


def simulated(toy: pd.DataFrame, metric: str, vocabulary: int = 1000, n: int | None = None) -> pd.DataFrame:
    """Simulated rows of one test size (the largest unless told), each with its closed form beside it."""
    rows = toy[toy["metric"] == metric]
    closed = rows[rows["source"] == "closed_form"].set_index(["scale", "length"])["score"]
    rows = select(rows[rows["source"] == "simulated"], vocabulary=vocabulary)
    rows = rows[rows["n"] == (n or rows["n"].max())].sort_values(["scale", "length"], ignore_index=True)
    law = [closed[scale, length] for scale, length in zip(rows["scale"], rows["length"], strict=True)]
    return rows.assign(closed=law)


def _toy_edit_distance(toy: pd.DataFrame) -> Found:
    rows = simulated(toy, "token_edit_distance")
    five = rows[rows["length"] == 5]
    r2 = float(np.corrcoef(1 - five["closed"] / 5, five["score"])[0, 1] ** 2)
    return Found("holds" if r2 > 0.999 else "fails", r2, n=len(five))


def _toy_exact_match(toy: pd.DataFrame) -> Found:
    rows = simulated(toy, "exact_match")
    inside = int(((rows["low"] <= rows["closed"]) & (rows["closed"] <= rows["high"])).sum())
    found = share(inside, len(rows), "holds")
    return found if (found.high or 0) >= 0.95 else found._replace(status="fails")


def _toy_multiple_choice(toy: pd.DataFrame) -> Found:
    def step(metric: str, spread: str) -> float:
        rows = toy[(toy["metric"] == metric) & (toy["source"] == "closed_form")]
        y = select(rows, spread=spread).sort_values("scale")["score"].to_numpy()
        return float(np.abs(np.diff(y)).max() / np.ptp(y))

    grade, spread, brier = (
        step("multiple_choice_grade", "0.0"),
        step("multiple_choice_grade", "1.0"),
        step("brier_target", "0.0"),
    )
    note = f"With unequal questions the grade's largest step is {spread:.3f}; the Brier score's is {brier:.3f}."
    status: Status = "fails" if grade < 0.9 or brier > 0.25 else "holds" if spread > 0.9 else "mixed"
    return Found(status, grade, n=int(toy["scale"].nunique()), note=note)


def _toy_small_tests(toy: pd.DataFrame) -> Found:
    rows = toy[(toy["metric"] == "exact_match") & (toy["source"] == "closed_form") & (toy["length"] == 5)]
    zero = (1 - rows["score"].to_numpy()) ** 100
    likely = int((zero > 0.5).sum())
    return Found(
        "holds" if likely else "fails", float(zero.mean()), n=len(rows), note=f"More likely than not for {likely}."
    )


CLAIMS = (
    Claim(
        "toy_edit_distance",
        "Under token edit distance models improve smoothly: the score is a straight line in the per-token probability.",
        "section 2, figure 2E",
        "R² of a straight line through simulated edit distances (L = 5, vocabulary 1000) against the true per-token "
        "success; holds above .999. By construction, as far as Levenshtein distance counts mismatches.",
        ("toy",), _toy_edit_distance, DATA, "toy_panels",
    ),
    Claim(
        "toy_exact_match",
        "Exact match of the same models falls geometrically with the length of the answer: it is p to the power L.",
        "section 2, figure 2C",
        "Share of simulated cells (models x lengths, independent draws) whose 95% interval holds p^L; holds unless "
        "significantly below .95. The toy model says so by construction: this checks sampler and metric.",
        ("toy",), _toy_exact_match, DATA, "toy_panels",
    ),
    Claim(
        "toy_multiple_choice",
        "A discontinuous metric (multiple choice grade) jumps where a continuous one of the same outputs (Brier) is smooth.",
        "section 2, figure 2D and 2F",
        "Largest step between neighbouring sizes as a share of the range, questions equal, closed forms; holds if above .9 "
        "for the grade and below .25 for the Brier score, mixed if not so for questions of unequal difficulty.",
        ("toy",), _toy_multiple_choice, "closed forms", "toy_panels",
    ),
    Claim(
        "toy_small_tests",
        "With too few test items, small models that do have some ability score zero.",
        "section 2; appendix A",
        "Chance of 0 right of 100 items at L = 5, (1 - p^5)^100, mean over models; holds if above one half for any model.",
        ("toy",), _toy_small_tests, "closed forms", "toy_resolution",
    ),
)  # fmt: skip
