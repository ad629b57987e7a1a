"""ObsScaling, 73 public base models with a training compute: the same outputs under exact match and under BLEU.

Eight two-shot scores of 84 models as their source prints them; 11 of the models come without a compute and stand in the table
without a scale. Chance is 0 for free answers. The transliteration task is scored twice, by exact match and by the source's
corpus BLEU, here divided by 100. The source gives no number of items: it is the smallest N of which the scores of a task are
whole multiples of 1/N (`items_of`), and a score that is none (two runs of 72B models) has no n.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mirage_jax import files, table
from mirage_jax.arrays import Numbers
from mirage_jax.decide.verdicts import verdict
from mirage_jax.emergence import emergence_scores, linearities
from mirage_jax.errors import InputError
from mirage_jax.estimators import clopper_pearson
from mirage_jax.metrics.facts import METRICS
from mirage_jax.null import emergence_test
from mirage_jax.study import Output, main
from mirage_jax.table import setting, signature

NAME = "obs_scaling"
DATA = ("obs_scaling",)
FEWEST = 3  # scales of a curve that gets an emergence score
FLOPS = "FLOPs (1E21)"
UNIT = 1e21
MOST = 50_000  # items that are looked for


class Column(NamedTuple):
    """What a column of scores is."""

    task: str
    metric: str
    chance: float | None = 0.0
    percent: bool = False


COLUMNS = {
    "parsinlu_qa_2_acc": Column("parsinlu_qa", "multiple_choice_grade", 0.25),
    "word_unscrambling_2_exact_match": Column("word_unscrambling", "exact_match"),
    "ipa_transliterate_2_exact_match": Column("ipa_transliterate", "exact_match"),
    "ipa_transliterate_2_bleu": Column("ipa_transliterate", "bleu_4", percent=True),
    "arithmetic_3ds_2_acc": Column("3-digit subtraction", "exact_match"),
    "arithmetic_3da_2_acc": Column("3-digit addition", "exact_match"),
    "arithmetic_2dm_2_acc": Column("2-digit multiplication", "exact_match"),
    "arithmetic_2da_2_acc": Column("2-digit addition", "exact_match"),
}


@dataclass(frozen=True)
class Config:
    """Nothing is drawn: every score is published."""

    seed: int = 0
    """Of no effect."""


PRESETS = {"quick": Config(), "full": Config()}


def run(config: Config, obs_scaling: Path) -> Output:
    """Every published score as a row, and the emergence score and verdict of each family, task and metric."""
    del config
    scores = obs_scaling / "base_llm_emergent_capability_eval.csv"
    models = obs_scaling / "base_llm_benchmark_eval.csv"
    df = _read(scores, models)
    rows = list(_rows(df, files.sha256(scores)[:8]))
    df = table.frame([{"study": NAME, **row} for row in rows])
    return Output(rows, {"scores": pd.DataFrame(curve_scores(df)), "verdicts": verdict(df)})


def _read(scores: Path, models: Path) -> pd.DataFrame:
    """The scores of each model with its family and compute, or an `InputError` naming the first row that does not fit."""
    try:
        left, right = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (scores, models))
    except ValueError as error:  # pandas' parser errors, empty files and wrong encodings among them
        raise InputError(f"{scores.parent}: not CSV: {error}") from None
    about = ["Model", "Model Family", FLOPS]
    for path, df, wanted in ((scores, left, ["Model", *COLUMNS]), (models, right, about)):
        if not set(wanted) <= set(df.columns) or df.empty:
            raise InputError(f"{path}: expected rows of {', '.join(wanted)}; got {', '.join(df.columns)}")
        if df["Model"].duplicated().any():
            raise InputError(
                f"{path}: expected one row a model, got two of {df['Model'][df['Model'].duplicated()].iloc[0]}"
            )
    df = left.merge(right[about], on="Model", how="left")
    tops = {FLOPS: np.inf} | {name: 100 if column.percent else 1 for name, column in COLUMNS.items()}
    values = df[list(tops)].apply(pd.to_numeric, errors="coerce")
    fits = ((df[list(tops)] == "") | ((values >= 0) & (values <= pd.Series(tops)))).all(axis=1) & ~(values[FLOPS] == 0)
    fits &= df["Model Family"].notna() & (df["Model Family"] != "") & (df["Model"] != "")
    if not fits.all():
        row = df[~fits].iloc[0].to_dict()
        raise InputError(f"{scores.parent}: expected a family, shares and BLEU in percent, or nothing, got {row}")
    df[list(tops)] = values
    return df


def items_of(scores: Numbers) -> int | None:
    """Items N of a test from its scores k/N: the smallest N <= 50,000 that fits nine tenths of the distinct ones.

    A multiple of N would give the same scores only if all its counts shared a factor. None if no N does, or where fewer
    than 5 distinct scores lie inside (0, 1): these would fit too many N.
    """
    y = np.unique(np.asarray(scores, dtype=float))
    y = y[(y > 0) & (y < 1)]
    if y.size < 5:
        return None
    for first in range(2, MOST + 1, 1000):
        n = np.arange(first, min(first + 1000, MOST + 1))
        fits = fits_items(y[:, None], n).mean(0) >= 0.9
        if fits.any():
            return int(n[fits.argmax()])
    return None


def fits_items(score: Any, n: Any) -> np.ndarray:
    """Whether a score is a whole multiple of 1/n, to a thousandth of an item: what the digits of the sources bear."""
    count = np.asarray(score) * n
    return np.abs(count - np.rint(count)) < 1e-3


def rate(score: float, n: int | None) -> dict[str, Any]:
    """Columns of a share of right items: its 95% Clopper-Pearson interval and binomial error where n is known."""
    if n is None:
        return {"score": score}
    low, high = map(float, clopper_pearson(round(score * n), n))
    return {"score": score, "low": low, "high": high, "se": (score * (1 - score) / n) ** 0.5, "n": n, "missing": 0}


def _rows(df: pd.DataFrame, data: str) -> Iterator[dict[str, Any]]:
    tests = {c.task: (name, items_of(df[name].dropna())) for name, c in COLUMNS.items() if not c.percent}
    for row in df.to_dict("records"):
        for name, column in COLUMNS.items():
            score, (share, n) = row[name], tests[column.task]
            if np.isnan(score):
                continue
            if n is not None and not fits_items(row[share], n):
                n = None  # another test than the other models'
            common = {
                "source": "published", "family": row["Model Family"], "model": row["Model"], "scale_kind": "flops",
                "scale": None if np.isnan(row[FLOPS]) else row[FLOPS] * UNIT, "task": column.task, "metric": column.metric,
            }  # fmt: skip
            if column.percent:  # its error is unknown: a corpus BLEU is no mean of items
                how = {
                    "setting": setting(level="corpus", shots=2),
                    "signature": _signature(column, data, scorer="source"),
                }
                yield common | how | {"score": score / 100, "n": n, "missing": 0}
            else:
                how = {"setting": setting(shots=2), "signature": _signature(column, data), "chance": column.chance}
                yield common | how | rate(score, n)


def _signature(column: Column, data: str, **how: str) -> str:
    return signature(column.metric, data=data, items="from the scores", **how)


def curve_scores(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Emergence score of every curve over at least three scales, and its p-value against models that do not improve.

    As printed, and with the floor under the typical step that n gives a share, or the errors any other score. The p-value
    belongs to the floored score; where neither is known there is none, and it belongs to the printed score.
    """
    placed = rows[rows["scale"].notna()]
    for key, curve in placed.groupby(["family", "task", "metric", "setting"], sort=True):
        curve = curve.sort_values("scale")
        at = [values.to_numpy(float) for _, values in curve.groupby("scale")["score"]]
        if len(at) < FEWEST:
            continue
        direction, y = METRICS[str(key[2])].direction, np.array([scores.mean() for scores in at])[None]
        n, se = curve["n"].to_numpy(float), curve["se"].to_numpy(float)
        noise: dict[str, Any] = {}
        if not np.isnan(se).any():  # of a share the floor is that of its n
            noise = {"n": n.min()} if METRICS[str(key[2])].bounds == (0, 1) else {"se": np.median(se)}
        test = emergence_test(y, **noise, direction=direction)
        yield dict(zip(("family", "task", "metric", "setting"), key, strict=True)) | {
            "scales": len(at), "n": None if np.isnan(n).any() else int(n.min()), "range": float(np.ptp(y)),
            "emergence_inf": float(emergence_scores(y, direction=direction, zero_median="inf")[0]),
            "emergence_floor": float(test.score[0]) if noise else np.nan,
            "linearity": float(linearities(y, direction=direction)[0]),
            "rank_correlation": float(test.rank_correlation[0]), "p": float(test.p[0]),
        }  # fmt: skip


if __name__ == "__main__":
    main(sys.modules[__name__])
