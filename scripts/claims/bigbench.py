"""Claims of the BIG-bench analysis (section 4 of the paper), on the scores of one family."""

import numpy as np
import pandas as pd

from scripts.claims.record import Claim, Found, share

DATA = "BIG-G scores, derived from wschella/lass"


def sharper_than_line(scores: pd.DataFrame, column: str) -> pd.Series:
    """Whether a curve scores above a straight line over as many scales, which scores their number less one."""
    return scores[column] > scores["scales"] - 1


def looks_emergent(scores: pd.DataFrame) -> list[str]:
    """Multiple-choice tasks of at least 100 items whose accuracy scores above a straight line, highest first.

    By the score as printed in the paper, without a floor; a smaller task's jump is one or two items.
    """
    rows = scores[scores["accuracy"] & (scores["metric"] == "multiple_choice_grade") & (scores["n"] >= 100)]
    rows = rows[sharper_than_line(rows, "emergence_inf")]
    return list(rows.sort_values("emergence_inf", ascending=False)["task"])


def _bigg_rare(scores: pd.DataFrame, noise: pd.DataFrame) -> Found:
    rows = scores[scores["accuracy"]]
    level = float(noise.loc[noise["quantile"] == 0.95, "floor"].iloc[0])
    noisy = int((rows["emergence_floor"] > level).sum())
    found = share(int(sharper_than_line(rows, "emergence_floor").sum()), len(rows), "holds")
    found = found._replace(note=f"{noisy} tasks are above {level:.1f}, which one curve in twenty reaches at chance.")
    return found if (found.high or 1) < 0.25 else found._replace(status="fails")


def _bigg_continuous(scores: pd.DataFrame) -> Found:
    tasks = looks_emergent(scores)
    if not tasks:
        return Found("not testable here", note="No such task.")
    brier = scores[(scores["metric"] == "lass:conf_normalized_bs") & scores["task"].isin(tasks)]
    gone = len(tasks) - int(sharper_than_line(brier, "emergence_inf").sum())
    floor = scores[scores["accuracy"] & scores["task"].isin(tasks)]
    already = len(tasks) - int(sharper_than_line(floor, "emergence_floor").sum())
    note = f"Tasks: {', '.join(tasks)}. A floor at the test's resolution alone removes {already} of {len(tasks)}."
    return share(gone, len(tasks), "holds" if gone == len(tasks) else "mixed" if gone else "fails", note)


def _bigg_zero_median(scores: pd.DataFrame) -> Found:
    rows = scores[scores["accuracy"]]
    infinite, flat = np.isinf(rows["emergence_inf"]), rows["range"] == 0
    top = rows[~infinite].sort_values("emergence_inf").iloc[-1]
    note = (
        f"{infinite.sum()} are infinite and {flat.sum()} flat (0/0). The largest finite score is {top['emergence_inf']:.1f} "
        f"({top['task']}). With the step floored at what the test resolves {np.isinf(rows['emergence_floor']).sum()} are "
        f"infinite and the largest is {rows['emergence_floor'].max():.1f}."
    )
    unusable = int((infinite | flat).sum())
    return share(unusable, len(rows), "fails" if unusable else "holds", note)


CLAIMS = (
    Claim(
        "bigg_rare",
        "Few tasks look emergent.",
        "section 4, figure 5 (the paper counts metrics; these data hold one accuracy a task)",
        "Share of 85 tasks whose floored emergence score is above a straight line's (11 over twelve sizes); holds if "
        "significantly below a quarter.",
        ("bigg_scores", "bigg_noise"), _bigg_rare, DATA, "bigg_scores",
    ),
    Claim(
        "bigbench_metrics",
        "At most 5 of 39 preferred metrics show emergence, and two of them hold more than 92% of it.",
        "section 4, figure 5",
        "Needs every BIG-bench task, metric and family; the data at hand hold one family and one accuracy a task.",
    ),
    Claim(
        "bigg_continuous",
        "On tasks that look emergent under accuracy, emergence disappears under a Brier score.",
        "section 4, figure 6, with the continuous score at hand",
        "Of the multiple-choice tasks of 100 items and more whose accuracy scores above a straight line (11, by the score as "
        "printed), the share that does not under the Brier score of the model's confidence in its own answer; holds if all, "
        "mixed if some.",
        ("bigg_scores",), _bigg_continuous, DATA, "bigg_brier",
    ),
    Claim(
        "bigbench_brier",
        "LaMDA's emergence under multiple choice grade is gone under the Brier score of the right option.",
        "section 4, figure 6",
        "Needs the probability of every option; the Brier scores at hand are of the model's confidence.",
    ),
    Claim(
        "emergence_score_finite",
        "The emergence score as printed is a usable number for every task.",
        "equation 1",
        "Share of 85 tasks whose median step is zero, so that the score divides by zero.",
        ("bigg_scores",), _bigg_zero_median, DATA, "bigg_scores", True,
    ),
)  # fmt: skip
