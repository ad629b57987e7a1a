"""Calibration of the verdict: how often its rule is right, wrong or silent on simulated families whose truth is known.

Every cell draws many curves of one truth, measures them with finite tests, scatters the models if asked, and judges them by
`mirage_jax.decide.rule`. Counted are true and given labels. The truths in `sims.truths.UNSEEN`, unequal spacing, checkpoints
of one run and repeats were no part of the rule's design.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mirage_jax import seeds
from mirage_jax.decide.rule import judge
from mirage_jax.errors import InputError
from mirage_jax.estimators import clopper_pearson
from mirage_jax.progress import track
from mirage_jax.study import Output, main
from mirage_jax.table import setting, signature
from sims import truths

NAME = "calibration"
DATA = ()
DESIGNS = ("plain", "told", "unequal", "checkpoints", "repeats", "exact_alone", "linear_alone")
REPEATS = 5  # models at each scale in the design `repeats`
DRIFT = 0.9  # correlation of the scatter of neighbouring checkpoints


@dataclass(frozen=True)
class Config:
    """The cells of the calibration."""

    seed: int = 0
    """Seed of every draw."""
    curves: int = 100
    """Curves of each truth in a cell."""
    scales: tuple[int, ...] = (8, 12)
    """Numbers of scales."""
    items: tuple[int, ...] = (1000,)
    """Test items of each score."""
    scatter: tuple[float, ...] = (0.0,)
    """Standard deviation of logit(rate) between models, which the rule has to estimate."""
    designs: tuple[str, ...] = ("plain",)
    """plain; told (the scatter is given); unequal spacing; checkpoints (scatter that drifts along a run); repeats (models at
    each scale); exact_alone, linear_alone (one metric, the other unknown)."""
    families: int = 200
    """Families of seeds in the calibration of SEED_BIMODAL."""

    def __post_init__(self) -> None:
        """Refuse cells of nothing."""
        if self.curves < 1 or min(self.scales) < 3 or min(self.items) < 2 or min(self.scatter) < 0 or self.families < 1:
            raise InputError(f"expected curves, families >= 1, scales >= 3, items >= 2 and scatter >= 0: {self}")
        if not set(self.designs) <= set(DESIGNS):
            raise InputError(f"--designs: expected some of {', '.join(DESIGNS)}, got {', '.join(self.designs)}")


PRESETS = {
    "quick": Config(),
    "full": Config(
        curves=500, scales=(5, 6, 8, 12, 20), items=(200, 1000, 5000), scatter=(0.0, 0.05, 0.1, 0.2), designs=DESIGNS,
        families=1000,
    ),
}  # fmt: skip


class Cell(NamedTuple):
    """One truth under one design."""

    truth: str
    design: str
    scales: int
    items: int
    scatter: float


def cells(config: Config) -> Iterator[Cell]:
    """Every cell: scatter at 1000 items, or the one number there is; designs other than plain only from 8 scales on."""
    middle = 1000 if 1000 in config.items else config.items[0]
    for design in config.designs:
        for scales in config.scales:
            if design not in ("plain", "told") and scales < 8:
                continue
            for items in config.items:
                for scatter in config.scatter:
                    if design in ("checkpoints", "repeats"):
                        scatter = max(scatter, 0.1)
                    wanted = scatter == 0 or items == middle or design in ("checkpoints", "repeats")
                    if not wanted or (design not in ("plain", "told") and items != middle):
                        continue
                    if design in ("unequal", "exact_alone", "linear_alone") and scatter > 0:
                        continue
                    for truth in truths.TRUTHS:
                        yield Cell(truth, design, scales, items, scatter)


def run(config: Config) -> Output:
    """Count true and given labels in every cell; one curve of each truth goes into the table, to be looked at."""
    counted, rows, shown, wanted = [], [], set(), list(dict.fromkeys(cells(config)))
    for number, cell in track(list(enumerate(wanted)), "cells", [c.scales**2.0 for c in wanted]):
        draw = np.random.default_rng([config.seed, number])
        truth = truths.draw_truth(draw, cell.truth, config.curves, cell.scales, cell.design == "unequal")
        cases = measure(draw, truth, cell)
        found = judge(cases)
        pairs = pd.DataFrame({"true": truth.label, "given": found.label, "step": found.step})
        sums = pairs.groupby(["true", "given", "step"]).size().rename("curves").reset_index()
        counted.append(sums.assign(**cell._asdict()))
        if cell.scales == max(config.scales) and cell.truth not in shown:
            shown.add(cell.truth)
            rows += list(_rows(cell, truth, cases))
    confusion = pd.concat(counted, ignore_index=True)
    return Output(
        rows, {"confusion": confusion, "rates": rates(confusion), "seeds": _seeds(config)},
    )  # fmt: skip


def measure(draw: np.random.Generator, truth: truths.Truth, cell: Cell) -> Any:
    """The cases of a cell, as its design has them."""
    if cell.design == "checkpoints":
        return truths.cases(draw, truth, cell.items, cell.scatter, drift=DRIFT)
    if cell.design == "repeats":
        return truths.cases(draw, truth, cell.items, cell.scatter, repeats=REPEATS)
    tau = cell.scatter if cell.design == "told" else np.nan
    cases = truths.cases(draw, truth, cell.items, cell.scatter, tau)
    if cell.design.endswith("alone"):
        return truths.alone(cases, linear=cell.design == "linear_alone")
    return cases


def _rows(cell: Cell, truth: truths.Truth, cases: Any) -> Iterator[dict[str, Any]]:
    """The first curve of a cell under both metrics."""
    for j in range(cell.scales):
        n = int(cases.n[0, j])
        common = {
            "source": "simulated", "family": cell.truth, "model": f"{cell.truth} {j}", "scale_kind": "params",
            "scale": float(10 ** (7 + truth.x[0, j])), "task": cell.truth, "length": int(truth.length[0]), "n": n, "missing": 0,
            "unparsed": 0, "chance": float(truth.chance), "setting": setting(items=cell.items),
        }  # fmt: skip
        for metric, score, se in (
            ("exact_match", cases.rate, cases.se),
            ("token_accuracy", cases.linear, cases.linear_se),
        ):
            value, error = float(score[0, j]), float(se[0, j])
            if metric == "exact_match":
                low, high = map(float, clopper_pearson(round(value * n), n))
            else:
                low, high = max(0.0, value - 1.96 * error), min(1.0, value + 1.96 * error)
            yield common | {
                "metric": metric, "score": value, "low": low, "high": high, "se": error,
                "signature": signature(metric, truth=cell.truth, seed_of="calibration"),
            }  # fmt: skip


SMOOTH = ("METRIC_INDUCED", "SMOOTH")


def rates(confusion: pd.DataFrame) -> pd.DataFrame:
    """Error rates of the groups of cells that differ in the truth alone, each a share k of n with its 95% interval.

    wrong: of curves truly METRIC_INDUCED or SMOOTH, those given any other label but INSUFFICIENT_*; decided: those given
    none of these; false_threshold: those called THRESHOLD_SURVIVES. recall: of a truth, the share of its own label (of one
    metric alone a threshold of exact match is UNEXPLAINED_JUMP, a metric-induced curve SMOOTH).
    """
    found = []
    frame = confusion[confusion["true"] != truths.GREY].copy()
    exact, alone = frame["design"] == "exact_alone", frame["design"].str.endswith("alone")
    frame.loc[exact & (frame["true"] == "THRESHOLD_SURVIVES"), "true"] = "UNEXPLAINED_JUMP"
    smooth = alone & frame["true"].isin([*SMOOTH, "SHARED_PLATEAU"])
    smooth |= alone & ~exact & frame["true"].isin(["HINGE", "UNEXPLAINED_JUMP"])  # of the rate alone nothing jumps
    frame.loc[smooth, "true"] = "SMOOTH"
    keys = ["design", "scales", "items", "scatter"]
    for key, group in frame.groupby(keys, sort=True):
        cell = dict(zip(keys, key, strict=True))  # type: ignore[arg-type]
        for unseen, part in group.groupby(group["truth"].isin(truths.UNSEEN)):
            smooth = part[part["true"].isin(SMOOTH)]
            silent = smooth["given"].str.startswith("INSUFFICIENT")
            tests = {
                "wrong": ~silent & (smooth["given"] != smooth["true"]), "decided": ~silent,
                "false_threshold": smooth["given"] == "THRESHOLD_SURVIVES",
            }  # fmt: skip
            where = cell | {"truths": "unseen" if unseen else "designed"}
            found += [where | {"rate": name} | _share(smooth, hit) for name, hit in tests.items() if len(smooth)]
        for truth, part in group.groupby("truth"):
            for true, of in part.groupby("true"):
                hits = {f"{true} found": of["given"] == true}
                if true not in SMOOTH:
                    hits |= {f"called {wrong}": of["given"] == wrong for wrong in ("METRIC_INDUCED", "NON_MONOTONE")}
                    hits |= {"called THRESHOLD_SURVIVES": of["given"] == "THRESHOLD_SURVIVES"}
                found += [cell | {"truths": truth, "rate": name} | _share(of, hit) for name, hit in hits.items()]
    return pd.DataFrame(found)


def _share(frame: pd.DataFrame, hit: pd.Series) -> dict[str, Any]:
    k, n = int(frame.loc[hit, "curves"].sum()), int(frame["curves"].sum())
    low, high = clopper_pearson(k, n)
    return {"k": k, "n": n, "share": k / n, "low": float(low), "high": float(high)}


def _seeds(config: Config) -> pd.DataFrame:
    """How often seeds of one mode, or of two a gap apart, are called bimodal, by their number, on one scale."""
    found = []
    for number, (count, gap) in enumerate((c, g) for c in (10, 30) for g in (0.0, 0.2, 0.4, 0.6)):
        draw = np.random.default_rng([config.seed, 1 << 20, number])
        upper = draw.random((config.families, 1, count)) < 0.5
        ability = np.clip(0.3 + gap * upper + draw.normal(0, 0.02 if gap else 0.15, upper.shape), 0.01, 0.99)
        score = draw.binomial(1000, ability) / 1000
        noise = np.sqrt(np.maximum(score * (1 - score), 1e-3) / 1000)
        called = sum(one.bimodal for one in seeds.bimodal_many(score, noise))
        low, high = clopper_pearson(called, config.families)
        found.append(
            {"seeds": count, "gap": gap, "k": called, "n": config.families, "share": called / config.families,
             "low": float(low), "high": float(high)}
        )  # fmt: skip
    return pd.DataFrame(found)


if __name__ == "__main__":
    main(sys.modules[__name__])
