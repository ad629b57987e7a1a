"""Tables of scores without noise, for the tests of `verdict`."""

import numpy as np
import pandas as pd

from mirage_jax import verdict
from mirage_jax.decide.curves import KEY

X = np.linspace(7, 12, 12)  # decades
RISE = 0.2 + 0.6 / (1 + np.exp(-1.2 * (X - 9.5)))  # per-token rate: logistic, 3.7 decades wide
STEP = np.where(X < 9.5, 0.3, 0.7)
PAIR = ["exact_match", "token_accuracy"]


def rows(metric: str, scores, n=1000, x=X, **more) -> pd.DataFrame:
    """One curve, a model a scale; a sequence among `more` is a column, else a constant."""
    scores = np.asarray(scores, dtype=float)
    same = {"task": "sum", "metric": metric, "family": "f", "n": n}
    at = np.asarray(x)[: len(scores)]
    return pd.DataFrame(
        {"model": [f"m{j}" for j in range(len(at))], "scale": 10.0**at, "score": scores, **same, **more}
    )


def counted(p, n=1000):
    return np.round(np.asarray(p) * n) / n


def pair(p=RISE, length=5, n=1000, **more) -> pd.DataFrame:
    """Exact match p^length and token accuracy p of the same answers, without noise."""
    sharp = rows("exact_match", counted(np.asarray(p) ** length, n), n, **more)
    return pd.concat([sharp, rows("token_accuracy", p, n, se=0.4 / np.sqrt(n), **more)], ignore_index=True)


def label(df: pd.DataFrame, metric: str, **how) -> str:
    found = verdict(df, **how)
    return found.loc[found["metric"] == metric, "label"].item()


def same(a: pd.DataFrame, b: pd.DataFrame, **how) -> None:
    """Two verdicts, whatever the order of their rows."""
    a, b = (v.sort_values(list(KEY), na_position="first").reset_index(drop=True) for v in (a, b))
    pd.testing.assert_frame_equal(a, b, **({"check_exact": True} | how))


def edited(df: pd.DataFrame, row: int, column: str, value) -> pd.DataFrame:
    out = df.astype({column: object})
    out.loc[row, column] = value
    return out
