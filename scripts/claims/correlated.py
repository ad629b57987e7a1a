"""What independence hides (appendix A of the paper assumes it)."""

import pandas as pd

from scripts.claims.record import Claim, Found, Status

DATA = "simulated"
LENGTH = 10


def _curve(df: pd.DataFrame, process: str, strength: float | None, length: int = LENGTH) -> pd.DataFrame:
    same = df["strength"].isna() if strength is None else df["strength"] == strength
    return df[(df["process"] == process) & same & (df["length"] == length)]


def _power_law(correlated: pd.DataFrame, ratios: pd.DataFrame) -> Found:
    exact = correlated[(correlated["metric"] == "exact_match") & (correlated["source"] == "closed_form")]
    seen = exact[(exact["length"] == LENGTH) & (exact["setting"] == "correlation=0.3;process=markov")]
    seen = set(seen.loc[seen["score"] >= 0.01, "scale"])
    of = _curve(ratios, "markov", 0.3)
    worst = float(of.loc[of["scale"].isin(seen), "independence_ratio"].max())
    status: Status = "holds" if worst < 1.1 else "mixed" if worst < 2 else "fails"
    return Found(status, worst, n=len(seen))


def _slope(ratios: pd.DataFrame) -> Found:
    largest = ratios[ratios["scale"] == ratios["scale"].max()]
    half, most = (float(_curve(largest, "markov", rho)["effective_length"].iloc[0]) for rho in (0.5, 0.9))
    falls = LENGTH > half > most >= 1
    return Found("holds" if falls else "fails", half, n=1, note=f"At correlation .9 it is {most:.2f}.")


def _width(widths: pd.DataFrame) -> Found:
    of = widths[widths["process"] == "independent"]["width"]
    spread = float(of.max() / of.min())
    other = widths["width"].dropna()
    note = f"It is {of.iloc[0]:.2f} decades; over all processes from {other.min():.2f} to {other.max():.2f}."
    return Found("holds" if spread < 1.001 else "fails", spread, n=len(of), note=note)


CLAIMS = (
    Claim(
        "independence_assumed",
        "Whole answers are right with the per-token probability to the power L, since tokens are about independent.",
        "appendix A",
        "Independence ratio (joint rate over product) of 10-token answers whose errors are a Markov chain of lag-1 "
        "correlation .3, largest over scales with exact match >= .01; holds below 1.1, mixed below 2.",
        ("correlated", "correlated_ratios"), _power_law, DATA, "correlated",
    ),
    Claim(
        "correlation_flattens",
        "The more the errors of an answer hang together, the less sharply exact match falls with the error rate.",
        "not in the paper",
        "Effective length (log exact match over log token success) of 10-token answers at the largest scale, errors a "
        "Markov chain of correlation .5; holds if it is below 10 and lower still at .9. Law: 1 + 9 (1 - rho) as errors vanish.",
        ("correlated_ratios",), _slope, DATA, "correlated", True,
    ),
    Claim(
        "length_moves_the_curve",
        "On a log axis of scale, exact match of longer answers is the same curve farther right, no steeper.",
        "section 2, figure 2C, not stated there",
        "Largest over smallest width (decades of scale between exact match .1 and .9) over answer lengths, independent "
        "errors; holds below 1.001. Follows from exp(-L (N/c)^alpha): L only rescales N.",
        ("correlated_widths",), _width, DATA, "correlated", True,
    ),
)  # fmt: skip
