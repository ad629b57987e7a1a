"""What the verdict may claim of itself: its error rates where the truth is known. Ours, not the paper's."""

import pandas as pd

from mirage_jax.estimators import clopper_pearson
from scripts.claims.record import Claim, Found

DATA = "simulated"
ITEMS, SCALES = 1000, 8


def _group(rates: pd.DataFrame, rate: str, truths: list[str]) -> tuple[int, int]:
    """Hits and curves of a rate, at 1000 items and from 8 scales on, no scatter between models."""
    of = rates[(rates["design"] == "plain") & (rates["scatter"] == 0) & (rates["items"] == ITEMS)]
    of = of[(of["rate"] == rate) & of["truths"].isin(truths) & (of["scales"] >= SCALES)]
    return int(of["k"].sum()), int(of["n"].sum())


def _at_most(k: int, n: int, most: float, note: str = "") -> Found:
    if not n:
        return Found("not testable here", note="No such curve.")
    low, high = map(float, clopper_pearson(k, n))
    status = "holds" if high <= most else "fails" if low > most else "mixed"
    return Found(status, k / n, low, high, n, note)


def _at_least(k: int, n: int, least: float) -> Found:
    found = _at_most(n - k, n, 1 - least)
    if found.value is None or found.low is None or found.high is None:
        return found
    return found._replace(value=1 - found.value, low=1 - found.high, high=1 - found.low)


def _wrong(rates: pd.DataFrame) -> Found:
    decided, of = _group(rates, "decided", ["designed"])
    note = f"It decides {decided / of:.0%} of them." if of else ""
    return _at_most(*_group(rates, "wrong", ["designed"]), 0.05, note)


def _unseen(rates: pd.DataFrame) -> Found:
    return _at_most(*_group(rates, "wrong", ["unseen"]), 0.07)


def _false_threshold(rates: pd.DataFrame) -> Found:
    return _at_most(*_group(rates, "false_threshold", ["designed", "unseen"]), 0.01)


def _steps(rates: pd.DataFrame) -> Found:
    return _at_least(
        *_group(rates, "THRESHOLD_SURVIVES found", ["step.3", "early.3", "late.3", "trend.3", "dominant"]), 0.9
    )


def _joint(rates: pd.DataFrame) -> Found:
    return _at_most(*_group(rates, "called METRIC_INDUCED", ["joint"]), 0.03)


def _modes(seeds: pd.DataFrame) -> Found:
    one, two = (seeds[(seeds["seeds"] == 10) & (seeds["gap"] == gap)].iloc[0] for gap in (0.0, 0.4))
    status = "holds" if two["share"] >= 0.8 and one["share"] <= 0.02 else "mixed" if two["share"] >= 0.8 else "fails"
    note = f"Of families of one mode {one['share']:.1%} are called so."
    return Found(status, float(two["share"]), float(two["low"]), float(two["high"]), int(two["n"]), note)


WHERE = "not in the paper: calibration of this project's verdict"
CELLS = "Simulated families of 8 scales and more, 1000 items a score, scatter between models estimated."
CLAIMS = tuple(
    Claim(name, claim, WHERE, f"{CELLS} {test}", (table,), measure, DATA, "calibration", True)
    for name, claim, test, table, measure in (
        (
            "verdict_wrong", "The verdict is wrong on at most 1 in 20 metric-induced and smooth curves.",
            "Share given any other label than its own or INSUFFICIENT_*; holds if significantly at most 5%.",
            "calibration_rates", _wrong,
        ),
        (
            "verdict_unseen", "It is nearly as good on truths that it was not made on.",
            "The same share for mixed lengths, guessing and brisk rises; holds if significantly at most 7%.",
            "calibration_rates", _unseen,
        ),
        (
            "verdict_false_threshold", "It calls at most 1 smooth curve in 100 a threshold.",
            "Share of metric-induced and smooth curves called THRESHOLD_SURVIVES; holds if significantly at most 1%.",
            "calibration_rates", _false_threshold,
        ),
        (
            "verdict_threshold", "It finds a jump of .3 in the rate itself, wherever it stands and on a trend.",
            "Share of such jumps called THRESHOLD_SURVIVES; holds if significantly at least 90%.",
            "calibration_rates", _steps,
        ),
        (
            "verdict_joint", "It does not blame the metric for a jump in how tokens go right together.",
            "Share of such curves called METRIC_INDUCED; holds if significantly at most 3%.",
            "calibration_rates", _joint,
        ),
        (
            "verdict_seeds", "Ten seeds show two modes .4 apart.",
            "Share of families called SEED_BIMODAL; holds if at least 80% and at most 2% of families of one mode.",
            "calibration_seeds", _modes,
        ),
    )
)  # fmt: skip
