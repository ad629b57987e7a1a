"""Slips of the paper's appendix A and equation 1, as tests."""

import numpy as np
import pandas as pd

from scripts.claims.record import Claim, Found
from scripts.claims.toy import DATA, simulated


def _sign(toy: pd.DataFrame) -> Found:
    rows = simulated(toy, "token_edit_distance")
    rows = rows[rows["length"] == 20]
    meant = float(np.abs(rows["score"] - rows["closed"]).max())
    printed = float(np.abs(rows["score"] - (20 - rows["closed"])).max())
    note = f"Against L e the gap is {meant:.2f}: that is meant, as in the main text."
    return Found("holds" if printed < meant else "fails", printed, n=len(rows), note=note)


def _alignment(toy: pd.DataFrame) -> Found:
    edits, right = (simulated(toy, m, vocabulary=10) for m in ("token_edit_distance", "token_accuracy"))
    long = edits["length"] == 20
    short = 1 - edits["score"][long] / (20 * (1 - right["score"][long]))
    return Found("fails" if short.max() > 0 else "holds", float(short.max()), n=int(long.sum()))


def _resolution(toy: pd.DataFrame) -> Found:
    rows = simulated(toy, "exact_match", n=20)
    steps = rows.loc[rows["length"] == 5, "score"] * 20
    finer = int((np.abs(steps - np.round(steps)) > 1e-9).sum())
    return Found("holds" if finer else "fails", finer / len(steps), n=len(steps))


CLAIMS = (
    Claim(
        "erratum_sign",
        "The expected edit distance at error rate e is L(1 - e).",
        "appendix A, equations 9 and 10",
        "Largest gap between simulated edit distance (L = 20, vocabulary 1000) and L(1 - e), in tokens.",
        ("toy",), _sign, DATA, None, True,
    ),
    Claim(
        "erratum_alignment",
        "The edit distance is at least the number of mismatched positions.",
        "appendix A, equation 6",
        "Share by which mean edit distance falls below the mean mismatches of the same simulated answers, largest over models "
        "(L = 20, vocabulary 10): a minimum over alignments is at most the mismatches.",
        ("toy",), _alignment, DATA, None, True,
    ),
    Claim(
        "erratum_resolution",
        "The resolution of accuracy on N items of length L is 1/(NL).",
        "appendix A, equation 19",
        "Share of simulated accuracies on 20 items of 5 tokens that are no multiple of 1/20: an item gives one bit, so the "
        "resolution is 1/N, by construction.",
        ("toy",), _resolution, DATA, "toy_resolution", True,
    ),
)  # fmt: skip
