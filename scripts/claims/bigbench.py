"""Claims of the BIG-bench analysis (section 4 of the paper), on the scores of one family."""

import numpy as np
import pandas as pd

from scripts.claims.record import Claim, Found, Status, share

DATA = "BIG-G scores, derived from wschella/lass"


def sharper_than_line(scores: pd.DataFrame, column: str) -> pd.Series:
    """Whether a curve scores above a straight line over as many scales, which scores their number less one."""
    return scores[column] > scores["scales"] - 1


LARGE = 100  # items from which a task is judged: with fewer, one or two items make a jump


BRIER = "lass:conf_normalized_bs"


def looks_emergent(scores: pd.DataFrame, metric: str) -> list[str]:
    """Large multiple-choice tasks that score above a straight line under a metric, as printed; highest first."""
    asked = scores[(scores["metric"] == "multiple_choice_grade") & (scores["n"] >= LARGE)]["task"]
    rows = scores[(scores["metric"] == metric) & scores["task"].isin(asked)]
    rows = rows[sharper_than_line(rows, "emergence_inf")]
    return list(rows.sort_values("emergence_inf", ascending=False)["task"])


def _rare(scores: pd.DataFrame, noise: pd.DataFrame) -> Found:
    rows = scores[scores["accuracy"] & (scores["n"] >= LARGE)]
    level = float(noise.loc[noise["quantile"] == 0.95, "floor"].iloc[0])
    noisy = int((rows["emergence_floor"] > level).sum())
    note = f"{noisy} are above {level:.1f}, which one curve in twenty reaches at chance."
    found = share(int(sharper_than_line(rows, "emergence_floor").sum()), len(rows), "holds", note)
    return found if (found.high or 1) < 0.5 else found._replace(status="fails")


def _continuous(scores: pd.DataFrame) -> Found:
    accuracy, brier = (set(looks_emergent(scores, metric)) for metric in ("multiple_choice_grade", BRIER))
    if not accuracy:
        return Found("not testable here", note="No such task.")
    gone, new = accuracy - brier, brier - accuracy
    note = f"Under accuracy only: {', '.join(sorted(gone)) or 'none'}; under Brier only: {', '.join(sorted(new)) or 'none'}."
    status: Status = "fails" if not gone else "holds" if gone == accuracy and not new else "mixed"
    return Found(status, len(gone) / len(accuracy), n=len(accuracy), note=note)


def _zero_median(scores: pd.DataFrame) -> Found:
    rows = scores[scores["accuracy"]]
    infinite, flat = np.isinf(rows["emergence_inf"]), rows["range"] == 0
    top = rows[~infinite].sort_values("emergence_inf").iloc[-1]
    note = (
        f"{infinite.sum()} score infinity and {flat.sum()} is flat (0/0). The largest finite score is "
        f"{top['emergence_inf']:.1f} ({top['task']}). With the step floored at what the test resolves "
        f"{np.isinf(rows['emergence_floor']).sum()} are infinite and the largest is {rows['emergence_floor'].max():.1f}."
    )
    zero = int((infinite | flat).sum())
    return share(zero, len(rows), "holds" if zero else "fails", note)


CLAIMS = (
    Claim(
        "bigg_rare",
        "Few tasks look emergent.",
        "section 4, figure 5 (the paper counts metrics; these data hold one accuracy a task)",
        "Share of the tasks of 100 items and more (smaller ones cannot score so high) whose floored emergence score is above a "
        "straight line's, 11 over twelve sizes; holds if significantly below one half, tasks taken as a sample.",
        ("bigg_scores", "bigg_noise"), _rare, DATA, "bigg_scores",
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
        "Of the multiple-choice tasks of 100 items and more whose accuracy scores above a straight line (11, as printed), the "
        "share that does not under the Brier score of the model's confidence in its own answer; holds if all and no other "
        "task does so under that Brier score alone, mixed if some.",
        ("bigg_scores",), _continuous, DATA, "bigg_brier",
    ),
    Claim(
        "bigbench_brier",
        "LaMDA's emergence under multiple choice grade is gone under the Brier score of the right option.",
        "section 4, figure 6",
        "Needs the probability of every option; the Brier scores at hand are of the model's confidence.",
    ),
    Claim(
        "emergence_score_infinite",
        "The emergence score as printed divides by zero on some tasks.",
        "equation 1",
        "Share of tasks whose median step between neighbouring sizes is zero; holds if any.",
        ("bigg_scores",), _zero_median, DATA, "bigg_scores", True,
    ),
)  # fmt: skip
