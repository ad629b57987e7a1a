"""The verdict against the same rule for one curve at a time, in pandas, numpy and scipy.

Half of the curves are exact match, each beside the token accuracy of the same answers, which are the other half. `verdict`
starts from the table; `judge` from the arrays that it makes of one. The peers are tests/verdict_twin.py under a groupby: with
scipy.optimize.nnls for each shape, as one would write it first, and with all shapes of a curve solved at once by numpy,
as one would write it next. Both keep the shapes of scales they have seen, and do less than `verdict`: no emergence score
with its p-value, no words. They judge a sample, and every label of it must be ours. Compilation is outside the clock, and
a table of another size must need none.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import jax
import numpy as np
import pandas as pd

import mirage_jax
from mirage_jax.decide.rule import SHARP, Cases, judge
from scripts.bench.timing import in_turns
from sims import truths

PAIRS, SAMPLE, ITEMS = 5_000, {"nnls": 12, "numpy": 60}, 1000  # curves of the sample: twice as many
SCALES = (6, 8, 10, 12)
COMPILED = "/jax/core/compile/backend_compile_duration"  # what JAX calls the event


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Every row, as it is measured; `quick` has few curves and two repeats."""
    pairs = PAIRS // 50 if quick else PAIRS
    cases, table = made(pairs)
    peers = {"nnls": "scipy nnls, a shape at a time", "numpy": "numpy, a curve at a time"}
    twin: Any = importlib.import_module("tests.verdict_twin")
    fits = {"nnls": twin.by_nnls, "numpy": twin.by_hand}
    starts = {"verdict": (lambda: mirage_jax.verdict(table)), "judge": lambda: judge(cases)}
    labels = mirage_jax.verdict(table)["label"].to_numpy()
    assert list(judge(cases).label) == list(labels), "verdict and judge differ"  # noqa: S101
    _compiles_nothing(lambda: mirage_jax.verdict(made(pairs // 2 + 1)[1]))
    few = {name: max(2, size // 10) if quick else size for name, size in SAMPLE.items()}
    samples = {name: table[table["task"].isin([f"t{i}" for i in range(few[name])])] for name in peers}
    theirs = {name: (lambda name=name: judged(samples[name], twin, fits[name])) for name in peers}
    for name, run in theirs.items():
        _agree(run(), labels, peers[name])
    seconds = in_turns([*starts.values(), *theirs.values()], 2 if quick else 3)
    taken = dict(zip([*starts, *theirs], seconds, strict=True))
    for name, peer in peers.items():
        for start in starts:
            ours, each = taken[start] / len(labels), taken[name] / (2 * few[name])
            yield {
                "start": start, "curves": len(labels), "scales": f"{min(SCALES)} to {max(SCALES)}", "peer": peer,
                "peer_curves": 2 * few[name], "ratio": each / ours, "ours_s": taken[start], "peer_s": taken[name],
            }  # fmt: skip


def made(pairs: int) -> tuple[Cases, pd.DataFrame]:
    """So many pairs of every simulated truth in turn, as arrays and as a table, in one order: exact match, then accuracy."""
    names = list(truths.TRUTHS)
    names.remove("mixed")  # its length is not one number
    draw, found = np.random.default_rng(0), []
    each = -(-pairs // (len(names) * len(SCALES)))
    for name in names:
        for scales in SCALES:
            found.append(truths.cases(draw, truths.draw_truth(draw, name, each, scales), ITEMS))
    padded = [_padded(part, max(SCALES)) for part in found]
    order = draw.permutation(each * len(found))[:pairs]
    both = Cases(*(np.concatenate(field)[order] for field in zip(*padded, strict=True)))
    alone = truths.alone(both, linear=True)._replace(chance=np.zeros(pairs))
    twice = Cases(
        *(np.stack(field, 1).reshape(2 * pairs, *field[0].shape[1:]) for field in zip(both, alone, strict=True))
    )
    real = np.arange(max(SCALES)) < both.size[:, None]
    task, at = np.nonzero(real)
    common = {
        "task": [f"t{i}" for i in task], "family": "simulated", "model": [f"m{j}" for j in at], "scale": 10 ** both.x[real],
        "n": both.n[real].astype(int), "length": both.length[task].astype(int),
    }  # fmt: skip
    # a variance as it is before an unlike item is added, which sims have done and `verdict` does
    variance = both.linear_se**2 - 0.25 / both.length[:, None] / np.maximum(both.n * (both.n + 1), 1)
    error = np.sqrt(np.maximum(variance, 0))
    exact = pd.DataFrame(common | {"metric": "exact_match", "score": both.rate[real], "chance": both.chance[task]})
    linear = pd.DataFrame(common | {"metric": "token_accuracy", "score": both.linear[real], "se": error[real]})
    table = pd.concat([exact, linear], ignore_index=True)
    number = table["task"].str[1:].astype(int)
    table = table.iloc[np.lexsort((np.arange(len(table)), table["metric"] == "token_accuracy", number))]
    return twice, table.reset_index(drop=True)


def _padded(cases: Cases, width: int) -> Cases:
    out = {}
    for name, field in cases._asdict().items():
        more = ((0, 0), (0, width - field.shape[1])) if field.ndim == 2 else ((0, 0),)
        out[name] = np.pad(field, more, constant_values=0)
    return Cases(**out)


def judged(table: pd.DataFrame, twin: Any, fit: Callable[..., Any]) -> Mapping[tuple[str, str], str]:
    """Labels by task and metric, a group of the table at a time."""
    twin.every_shape.cache_clear()
    labels = {}
    for task, group in table.groupby("task", sort=False):
        by = {metric: part.sort_values("scale") for metric, part in group.groupby("metric")}
        exact, linear = by["exact_match"], by["token_accuracy"]
        n, length = (exact[name].to_numpy(dtype=float) for name in ("n", "length"))
        share = (np.rint(exact["score"] * n) + 0.5) / (n + 1)
        error = np.sqrt(linear["se"].to_numpy() ** 2 + 0.25 / length / (n * (n + 1)))
        score, rate = linear["score"].to_numpy(), exact["score"].to_numpy()
        fields: dict[str, Any] = {
            "x": np.log10(exact["scale"].to_numpy()), "rate": rate, "n": n, "se": np.sqrt(share * (1 - share) / n),
            "linear": score, "linear_se": error, "size": len(n), "counted": True, "paired": True, "tokens": True,
            "proper": False, "length": length[0], "chance": exact["chance"].iloc[0], "scatter": np.nan, "sharp": SHARP,
            "bimodal": False,
        }  # fmt: skip
        alone = {"rate": score, "se": error, "counted": False, "paired": False, "proper": True}
        labels[task, "exact_match"] = twin.judge_one(Cases(**fields), fit)[0]
        labels[task, "token_accuracy"] = twin.judge_one(Cases(**fields | alone), fit)[0]
    return labels


def _agree(theirs: Mapping[tuple[str, str], str], ours: np.ndarray, peer: str) -> None:
    wrong = [key for key, label in zip(theirs, ours, strict=False) if theirs[key] != label]
    assert not wrong, f"{peer} has another label at {wrong}"  # noqa: S101


def _compiles_nothing(run: Callable[[], Any]) -> None:
    """Refuse a run in which JAX compiles a program."""
    before = len(_compiled())
    run()
    more = len(_compiled()) - before
    assert not more, f"{more} programs were compiled for a table of another size"  # noqa: S101


@cache
def _compiled() -> list[float]:
    """Seconds of every compilation since the first call, a list that grows."""
    seen: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == COMPILED:
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return seen
