"""OpenLM, 104 models of six sizes on three corpora: 46 accuracies against the loss on C4, and against size.

On the loss axis a corpus's models of all sizes and token budgets are one curve: that is the claim to be looked at. On the size
axis stand the models trained at one multiple of 20 tokens a parameter, the only budget with all six sizes. The source
gives no number of items: it is the smallest N of which the accuracies of a task are whole multiples of 1/N; four averages over
subtasks fit none. Chance is given where the number of choices is beyond doubt, and 0 for free answers.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mirage_jax import files, table
from mirage_jax.decide.verdicts import verdict
from mirage_jax.errors import InputError
from mirage_jax.loss_axis import collapse, loss_threshold_fit
from mirage_jax.study import Output, main
from mirage_jax.table import setting, signature
from scripts.studies.obs_scaling import curve_scores, items_of, rate

NAME = "openlm"
DATA = ("openlm_scaling",)
CORPORA = {"c4_original": "OpenLM C4", "rpj": "OpenLM RedPajama", "rw_original": "OpenLM RefinedWeb"}
MULTIPLE = 1.0  # of the tokens a size is given in proportion to its parameters
# tasks that end in 0 for the smallest models, or nearly: answers are written or continued, not chosen
FREE_FORM = (
    "bigbench_conlang_translation", "bigbench_cs_algorithms", "bigbench_dyck_languages", "bigbench_operators",
    "bigbench_qa_wikidata", "bigbench_repeat_copy_logic", "coqa", "jeopardy", "lambada_openai", "pubmed_qa_labeled",
    "simple_arithmetic_nospaces", "simple_arithmetic_withspaces", "squad",
)  # fmt: skip
CHOICES = {
    "arc_challenge": 4, "arc_easy": 4, "boolq": 2, "commonsense_qa": 5, "copa": 2, "hellaswag": 4, "hellaswag_zeroshot": 4,
    "logi_qa": 4, "mmlu": 4, "mmlu_zeroshot": 4, "openbook_qa": 4, "piqa": 2, "winograd": 2, "winogrande": 2,
}  # fmt: skip


LEAST = 3  # models of a size that is compared with the others
MOVES = 0.1  # range of the accuracies from which a threshold is looked for


@dataclass(frozen=True)
class Config:
    """The permutations of the test of collapse."""

    seed: int = 0
    """Seed of the permutations; every score is published."""
    permutations: int = 49
    """Permutations of the sizes for each task and corpus."""

    def __post_init__(self) -> None:
        """Refuse a test of nothing."""
        if self.permutations < 1:
            raise ValueError(f"expected permutations >= 1: {self}")


PRESETS = {"quick": Config(), "full": Config(permutations=999)}


def run(config: Config, openlm_scaling: Path) -> Output:
    """Every published accuracy as a row by loss and, at the common token budget, by size; and the tests on the loss axis."""
    path = openlm_scaling / "openlm_scaling.csv.gz"
    df = _read(path)
    models = df.groupby("model", as_index=False)[["dataset", "params", "chinchilla_multiplier", "c4_loss"]].first()
    rows = list(_rows(df, files.sha256(path)[:8]))
    scores = table.frame([{"study": NAME, **row} for row in rows])
    loss = scores[scores["scale_kind"] == "loss"].merge(models[["model", "params"]], on="model")
    return Output(
        rows,
        {
            "models": models,
            "scores": pd.DataFrame(curve_scores(scores[scores["scale_kind"] == "params"])),
            "verdicts": verdict(scores),
            "collapse": pd.DataFrame(_collapse(loss, config)),
            "thresholds": pd.DataFrame(_thresholds(loss)),
        },
    )


def _read(path: Path) -> pd.DataFrame:
    """The published table, or an `InputError` naming the first row that does not fit."""
    numbers = ["params", "chinchilla_multiplier", "c4_loss", "accuracy"]
    try:
        df = pd.read_csv(path, keep_default_na=False)
    except (ValueError, OSError, EOFError) as error:  # not CSV, not gzip, cut short
        raise InputError(f"{path}: not gzipped CSV: {error}") from None
    wanted = ["model", "dataset", "task", *numbers]
    if not set(wanted) <= set(df.columns) or df.empty:
        raise InputError(f"{path}: expected rows of {', '.join(wanted)}; got {', '.join(df.columns)}")
    values = df[numbers].apply(pd.to_numeric, errors="coerce")
    fits = (values > 0).drop(columns="accuracy").all(axis=1) & values["accuracy"].between(0, 1)
    fits &= df["dataset"].isin(CORPORA) & (df["task"] != "") & ~df.duplicated(["model", "task"])
    if not fits.all():
        row = int((~fits).to_numpy().argmax())
        raise InputError(f"{path}: row {row}: expected one accuracy a model and task, got {df.iloc[row].to_dict()}")
    df[numbers] = values
    return df


def _rows(df: pd.DataFrame, data: str) -> Iterator[dict[str, Any]]:
    for task, scores in df.groupby("task", sort=True):
        n, metric = items_of(scores["accuracy"]), "exact_match" if task in FREE_FORM else "multiple_choice_grade"
        chance = 0.0 if task in FREE_FORM else 1 / CHOICES[str(task)] if task in CHOICES else None
        for row in scores.to_dict("records"):
            common = rate(row["accuracy"], n) | {
                "source": "published", "family": CORPORA[row["dataset"]], "model": row["model"], "task": task,
                "metric": metric, "chance": chance, "signature": signature(metric, data=data, items="from the scores"),
            }  # fmt: skip
            yield common | {"scale_kind": "loss", "scale": row["c4_loss"], "setting": setting(loss="C4")}
            if row["chinchilla_multiplier"] == MULTIPLE:
                yield common | {"scale_kind": "params", "scale": row["params"], "setting": setting(multiplier=1)}


def _collapse(loss: pd.DataFrame, config: Config) -> Iterator[dict[str, Any]]:
    """Of each task and corpus, how near the models of all sizes are to one curve of accuracy against loss.

    `explained`: share of the variance of the accuracies that the common monotone curve takes up; `between`: share of the
    rest that lies between sizes; `noise`: root mean square of what the items' number alone makes of an accuracy.
    """
    for (task, family), curve in loss.groupby(["task", "family"], sort=True):
        own = curve[curve.groupby("params")["model"].transform("size") >= LEAST]
        if own["params"].nunique() < 2:
            continue
        y = own["score"].to_numpy()
        found = collapse(own["scale"], y, own["params"], permutations=config.permutations, seed=config.seed)
        rest, whole = ((y - found.curve) ** 2).sum(), ((y - y.mean()) ** 2).sum()
        n = own["n"].astype(float).max()
        yield {
            "task": task, "family": family, "metric": own["metric"].iloc[0], "points": y.size, "range": float(np.ptp(y)),
            "sizes": own["params"].nunique(), "explained": 1 - rest / whole if whole > 0 else np.nan,
            "between": found.share, "overlap": found.overlap, "f": found.f, "p": found.p,
            "residual": float((rest / y.size) ** 0.5), "noise": float(np.mean(y * (1 - y) / n) ** 0.5),
        }  # fmt: skip


def _thresholds(loss: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The loss below which a task leaves chance, with its interval, and whether a hinge fits better than smooth curves."""
    known = loss[loss["n"].notna() & loss["chance"].notna()]
    for (task, family), curve in known.groupby(["task", "family"], sort=True):
        n, y = curve["n"].to_numpy(float), curve["score"].to_numpy()
        if np.ptp(y) < MOVES or curve["scale"].nunique() < 6:
            continue
        inside = (y * n + 1) / (n + 2)  # an error of 0 is not certainty
        error = np.sqrt(inside * (1 - inside) / n)
        fit = loss_threshold_fit(curve["scale"], y, error, float(curve["chance"].iloc[0]))
        yield {"task": task, "family": family, "metric": curve["metric"].iloc[0], "points": y.size} | fit._asdict()


if __name__ == "__main__":
    main(sys.modules[__name__])
