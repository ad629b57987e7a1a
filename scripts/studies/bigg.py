"""BIG-G, twelve sizes on 85 BIG-bench tasks: emergence scores, and the same answers under a continuous metric.

The paper's figures 5 and 6 on published scores (T = 0, 3-shot). The accuracy is the share of right instances. The two Brier
columns of this source are not the paper's: they score the model's confidence in the answer it preferred (its highest choice
probability, as given or renormalised over the choices) against whether that answer was right, so they have no key in METRICS
and keep the source's names.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from mirage_jax import files, table
from mirage_jax.decide.verdicts import verdict
from mirage_jax.emergence import emergence_score, linearity, rank_correlation
from mirage_jax.errors import InputError
from mirage_jax.estimators import clopper_pearson
from mirage_jax.metrics.facts import METRICS
from mirage_jax.null import emergence_test
from mirage_jax.study import Output, main
from mirage_jax.table import setting, signature

NAME = "bigg"
DATA = ("bigbench_bigg",)
# the sizes as the source labels them, in parameters
SIZES = {
    "2m": 2e6, "16m": 16e6, "53m": 53e6, "125m": 125e6, "244m": 244e6, "422m": 422e6, "1b": 1e9, "2b": 2e9, "4b": 4e9,
    "8b": 8e9, "27b": 27e9, "128b": 128e9,
}  # fmt: skip
# tasks that the source scores without choices, by exact match: the renormalised confidence of a lone answer is 1 (or nearly,
# where several answers are right), so on them that Brier score is 1 - accuracy and says nothing more
FREE_FORM = (
    "auto_categorization", "codenames", "color", "disfl_qa", "emoji_movie", "geometric_shapes", "language_games",
    "linguistic_mappings", "list_functions", "matrixshapes", "modified_arithmetic", "mult_data_wrangling", "operators",
    "penguins_in_a_table", "qa_wikidata", "repeat_copy_logic", "simp_turing_concept", "unit_conversion",
    "unnatural_in_context_learning", "word_sorting", "word_unscrambling",
)  # fmt: skip
BRIER = {
    "conf_normalized_bs": "lass:conf_normalized_bs",
    "conf_absolute_bs": "lass:conf_absolute_bs",
}


@dataclass(frozen=True)
class Config:
    """The simulated noise that the published scores are held against."""

    seed: int = 0
    """Seed of the simulated noise; every score is published."""
    draws: int = 4000
    """Curves of pure chance."""
    items: int = 200
    """Items of each score at chance, as in the larger tasks."""
    chance: float = 0.25
    """Score of guessing."""

    def __post_init__(self) -> None:
        """Refuse noise of nothing."""
        if self.draws < 1 or self.items < 1 or not 0 < self.chance < 1:
            raise ValueError(f"expected draws and items >= 1 and chance in (0, 1): {self}")


PRESETS = {"quick": Config(), "full": Config(draws=20_000)}


def run(config: Config, bigbench_bigg: Path) -> Output:
    """Every task's published scores as rows, the emergence score of each task and metric under two policies, and verdicts."""
    path = bigbench_bigg / "bigg_T0_3shot_task_metrics.csv"
    df = _read(path)
    rows = list(_rows(df, files.sha256(path)[:8]))
    facts = dict.fromkeys(BRIER.values(), "nonlinear,lower,0..1")
    judged = verdict(table.frame([{"study": NAME, **row} for row in rows]), facts=facts)
    return Output(rows, {"scores": pd.DataFrame(_scores(df)), "noise": _noise(config), "verdicts": judged})


def _read(path: Path) -> pd.DataFrame:
    """The published table in order of task and size, or an `InputError` naming the first row that does not fit."""
    try:
        df = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' parser errors, empty files and wrong encodings among them
        raise InputError(f"{path}: not CSV: {error}") from None
    numbers = ("instance_count", "task_accuracy", *BRIER)
    if not {"task", "size", "shots", *numbers} <= set(df.columns) or df.empty:
        raise InputError(
            f"{path}: expected rows of task, size, shots, {', '.join(numbers)}; got {', '.join(df.columns)}"
        )
    values = df[list(numbers)].apply(pd.to_numeric, errors="coerce")
    fits = values.apply(lambda c: (c >= 1) & (c % 1 == 0) if c.name == "instance_count" else c.between(0, 1)).all(
        axis=1
    )
    fits &= df["size"].isin(SIZES) & (df["task"] != "") & ~df.duplicated(["task", "size"])
    if not fits.all():
        row = int((~fits).to_numpy().argmax())
        raise InputError(
            f"{path}: row {row}: expected one row a task and size, scores in [0, 1], got {df.iloc[row].to_dict()}"
        )
    if df["size"].nunique() < 3:
        raise InputError(f"{path}: expected at least 3 sizes, got {df['size'].nunique()}")
    df[list(numbers)] = values
    df["params"] = df["size"].map(SIZES)
    return df.sort_values(["task", "params"], ignore_index=True)


def _noise(config: Config) -> pd.DataFrame:
    """One-sided quantiles of the emergence score of models that all guess, over as many scales as there are sizes."""
    shape = (config.draws, len(SIZES), config.items)
    right = jax.random.bernoulli(jax.random.key(config.seed), config.chance, shape).sum(-1)
    curves, q = np.asarray(right) / config.items, (0.9, 0.95, 0.99)
    floor = np.quantile([emergence_score(y, n=config.items) for y in curves], q)
    inf = np.quantile([emergence_score(y, zero_median="inf") for y in curves], q)
    return pd.DataFrame({"quantile": q, "floor": floor, "inf": inf, "draws": config.draws})


def accuracy_metric(task: str) -> str:
    """What the source's accuracy of a task is: both are the share of right instances."""
    return "exact_match" if task in FREE_FORM else "multiple_choice_grade"


def _rows(df: pd.DataFrame, data: str) -> Iterator[dict[str, Any]]:
    for row in df.to_dict("records"):
        n, score = int(row["instance_count"]), float(row["task_accuracy"])
        metric = accuracy_metric(row["task"])
        low, high = map(float, clopper_pearson(round(score * n), n))
        common = {
            "source": "published", "family": "BIG-G T=0", "model": f"BIG-G {row['size']}", "scale_kind": "params",
            "scale": row["params"], "task": row["task"], "n": n, "missing": 0, "setting": setting(shots=row["shots"]),
        }  # fmt: skip
        yield common | {
            "metric": metric, "score": score, "low": low, "high": high, "se": (score * (1 - score) / n) ** 0.5,
            "signature": signature(metric, data=data),
        }  # fmt: skip
        for column, name in BRIER.items():
            yield common | {"metric": name, "score": float(row[column]), "signature": signature(name, data=data)}


def _scores(df: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for task, curve in df.groupby("task", sort=True):
        x, n = curve["params"].to_numpy(), curve["instance_count"].to_numpy()
        for column in ("task_accuracy", *BRIER):
            y = curve[column].to_numpy(dtype=float)
            accuracy = column == "task_accuracy"
            direction = METRICS[accuracy_metric(str(task))].direction if accuracy else "lower"
            # the source gives no error of a Brier score: against noise of any size, without a floor
            test = emergence_test(y[None], n=n if accuracy else None, direction=direction)
            yield {
                "task": task, "metric": accuracy_metric(str(task)) if accuracy else BRIER[column], "accuracy": accuracy,
                "scales": len(y), "n": int(n.min()), "range": float(np.ptp(y)),
                "emergence_inf": emergence_score(y, x, direction=direction, zero_median="inf"),
                "emergence_floor": emergence_score(y, x, direction=direction, n=n) if accuracy else np.nan,
                "linearity": linearity(y, x, direction=direction),
                "rank_correlation": rank_correlation(y, x, direction=direction), "p": float(test.p[0]),
            }  # fmt: skip


if __name__ == "__main__":
    main(sys.modules[__name__])
