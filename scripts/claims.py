"""The ledger: each claim of the paper in our own words, the test that these data allow, and what came out.

A claim's words stand in CLAIMS beside the function that measures it from stored tables. Where a table is absent, or nothing
at hand can decide, the record stands there all the same and says so. `ours` marks errata and findings not the paper's.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from mirage_jax.estimators import clopper_pearson

Status = Literal["holds", "fails", "mixed", "not testable here"]
FIELDS = ("id", "claim", "where", "test", "value", "low", "high", "n", "status", "data", "figure", "ours")
SIMULATED = "simulated"
GPT = "InstructGPT completions, mukobi/GPT-3-Multiplication-Tables"
BIGG = "BIG-G scores, derived from wschella/lass"
DIGITS = "digits bundled with scikit-learn"


class Found(NamedTuple):
    """What a test gave; `note` is added to the words of the test."""

    status: Status
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""


class Claim(NamedTuple):
    """A claim's words, the tables it needs, and its measurement (None: no data at hand can decide)."""

    id: str
    claim: str
    where: str
    test: str
    needs: tuple[str, ...] = ()
    measure: Callable[..., Found] | None = None
    data: str | None = None
    figure: str | None = None
    ours: bool = False


def _share(k: int, n: int, status: Status, note: str = "") -> Found:
    low, high = clopper_pearson(k, n)
    return Found(status, k / n, float(low), float(high), n, note)


def _toy(toy: pd.DataFrame, metric: str, vocabulary: int = 1000, n: int | None = None) -> pd.DataFrame:
    """Simulated rows of one test size (the largest unless told), each with its closed form beside it."""
    rows = toy[toy["metric"] == metric]
    closed = rows[rows["source"] == "closed_form"].set_index(["scale", "length"])["score"]
    rows = rows[(rows["source"] == "simulated") & rows["setting"].fillna("").str.endswith(f"vocabulary={vocabulary}")]
    rows = rows[rows["n"] == (n or rows["n"].max())].sort_values(["scale", "length"], ignore_index=True)
    law = [closed[scale, length] for scale, length in zip(rows["scale"], rows["length"], strict=True)]
    return rows.assign(closed=law)


def _toy_edit_distance(toy: pd.DataFrame) -> Found:
    rows = _toy(toy, "token_edit_distance")
    five = rows[rows["length"] == 5]
    r2 = float(np.corrcoef(1 - five["closed"] / 5, five["score"])[0, 1] ** 2)
    return Found("holds" if r2 > 0.999 else "fails", r2, n=len(five))


def _toy_exact_match(toy: pd.DataFrame) -> Found:
    rows = _toy(toy, "exact_match")
    inside = int(((rows["low"] <= rows["closed"]) & (rows["closed"] <= rows["high"])).sum())
    found = _share(inside, len(rows), "holds")
    return found if (found.high or 0) >= 0.95 else found._replace(status="fails")


def _toy_multiple_choice(toy: pd.DataFrame) -> Found:
    def step(metric: str, spread: str) -> float:
        rows = toy[(toy["metric"] == metric) & (toy["source"] == "closed_form")]
        y = rows[rows["setting"].fillna("").str.startswith(f"spread={spread}")].sort_values("scale")["score"].to_numpy()
        return float(np.abs(np.diff(y)).max() / np.ptp(y))

    grade, brier = step("multiple_choice_grade", "0.0"), step("brier_target", "0.0")
    note = (
        f"The Brier score's largest step is {brier:.3f}; with questions of unequal difficulty the grade is smooth too."
    )
    return Found("holds" if grade > 0.9 and brier < 0.25 else "fails", grade, n=int(toy["scale"].nunique()), note=note)


def _toy_small_tests(toy: pd.DataFrame) -> Found:
    rows = _toy(toy, "exact_match", n=100)
    zero = int((rows.loc[rows["length"] == 5, "score"] == 0).sum())
    return _share(zero, int((rows["length"] == 5).sum()), "holds" if zero else "fails")


def _erratum_sign(toy: pd.DataFrame) -> Found:
    rows = _toy(toy, "token_edit_distance")
    rows = rows[rows["length"] == 20]
    meant = float(np.abs(rows["score"] - rows["closed"]).max())
    printed = float(np.abs(rows["score"] - (20 - rows["closed"])).max())
    note = f"Against L e the gap is {meant:.2f}: that is meant, as in the main text."
    return Found("holds" if printed < meant else "fails", printed, n=len(rows), note=note)


def _erratum_alignment(toy: pd.DataFrame) -> Found:
    rows = _toy(toy, "token_edit_distance", vocabulary=10)
    rows = rows[rows["length"] == 20]
    gaps = 1 - rows[["score", "high", "low"]].div(rows["closed"], axis=0)
    worst = gaps.iloc[int(gaps["score"].argmax())]
    n = int(rows["n"].iloc[0])
    return Found("fails" if worst["high"] > 0 else "holds", *map(float, worst[["score", "high", "low"]]), n=n)


def _erratum_resolution(toy: pd.DataFrame) -> Found:
    rows = _toy(toy, "exact_match", n=20)
    steps = rows.loc[rows["length"] == 5, "score"] * 20
    finer = int((np.abs(steps - np.round(steps)) > 1e-9).sum())
    return _share(finer, len(steps), "holds" if finer else "fails")


def _exact(instructgpt: pd.DataFrame, items: str) -> pd.DataFrame:
    rows = instructgpt[(instructgpt["metric"] == "exact_match") & (instructgpt["setting"] == f"items={items};shots=3")]
    return rows[rows["length"].notna()].sort_values(["scale", "length"], ignore_index=True)


def _arithmetic_swap(instructgpt: pd.DataFrame, tests: pd.DataFrame) -> Found:
    ratio = tests[tests["test"] == "width_ratio"].iloc[0]
    rows = instructgpt[instructgpt["length"].isna() & (instructgpt["metric"] == "token_edit_distance")]
    y = rows.sort_values("scale")["score"].to_numpy()
    last = float((y[-2] - y[-1]) / (y[0] - y[-1]))
    status: Status = "fails" if not ratio["low"] > 1 else "mixed" if last > 0.5 else "holds"
    note = f"The last step, to davinci, makes {last:.0%} of it; davinci is also the one model of another generation."
    return Found(status, *(float(ratio[end]) for end in ("value", "low", "high")), n=int(ratio["n"]), note=note)


def _arithmetic_above_chance(instructgpt: pd.DataFrame) -> Found:
    rows = _exact(instructgpt, "all")
    above = int((rows["low"] > 10.0 ** -rows["length"].astype(float)).sum())
    return _share(above, len(rows), "holds" if above == len(rows) else "mixed" if above else "fails")


def _arithmetic_above_digits(instructgpt: pd.DataFrame) -> Found:
    rows = _exact(instructgpt, "all")
    above = int((rows["low"] > rows["chance"]).sum())
    return _share(above, len(rows), "holds" if above == len(rows) else "mixed" if above else "fails")


def _arithmetic_small_tests(instructgpt: pd.DataFrame) -> Found:
    few, every = _exact(instructgpt, "20"), _exact(instructgpt, "all")
    hidden = int(((few["score"] == 0) & (every["score"] > 0)).sum())
    return _share(hidden, len(few), "holds" if hidden else "fails")


def _arithmetic_geometric(tests: pd.DataFrame) -> Found:
    rows = tests[(tests["test"] == "independence_ratio") & tests["low"].notna()]
    apart = int(((rows["low"] > 1) | (rows["high"] < 1)).sum())
    status: Status = "holds" if apart == 0 else "fails" if 2 * apart > len(rows) else "mixed"
    return _share(apart, len(rows), status, f"The largest of these ratios is {rows['value'].max():.1f}.")


def _arithmetic_linear(instructgpt: pd.DataFrame, tests: pd.DataFrame) -> Found:
    rows = instructgpt[instructgpt["length"].notna() & (instructgpt["metric"] == "token_edit_distance")]
    rows = rows[rows["setting"] == "items=all;shots=3"]
    slope = tests[tests["test"] == "edit_slope"].set_index("model")["value"]
    off = (rows["score"] - rows["model"].map(slope) * rows["length"].astype(float)).abs()
    off = off.groupby(rows["model"]).max() / rows.groupby("model")["score"].max()
    status: Status = "holds" if off.max() < 0.1 else "mixed" if off.min() < 0.1 else "fails"
    return Found(status, float(off.max()), n=len(rows), note=f"By model: {', '.join(f'{v:.2f}' for v in sorted(off))}.")


def sharper_than_line(scores: pd.DataFrame, column: str) -> pd.Series:
    """Whether a curve scores above a straight line over as many scales, which scores their number less one."""
    return scores[column] > scores["scales"] - 1


def looks_emergent(scores: pd.DataFrame) -> list[str]:
    """Multiple-choice tasks of at least 100 items whose accuracy scores above a straight line, highest first.

    By the score as printed in the paper, without a floor; a smaller task's jump is one or two items.
    """
    rows = scores[scores["accuracy"] & (scores["metric"] == "multiple_choice_grade") & (scores["n"] >= 100)]
    rows = rows[sharper_than_line(rows, "emergence_inf")]
    return list(rows.sort_values("emergence_inf", ascending=False)["task"])


def _bigg_rare(scores: pd.DataFrame, noise: pd.DataFrame) -> Found:
    rows = scores[scores["accuracy"]]
    level = float(noise.loc[noise["quantile"] == 0.95, "floor"].iloc[0])
    noisy = int((rows["emergence_floor"] > level).sum())
    found = _share(int(sharper_than_line(rows, "emergence_floor").sum()), len(rows), "holds")
    found = found._replace(note=f"{noisy} tasks are above {level:.1f}, which one curve in twenty reaches at chance.")
    return found if (found.high or 1) < 0.25 else found._replace(status="fails")


def _bigg_continuous(scores: pd.DataFrame) -> Found:
    tasks = looks_emergent(scores)
    if not tasks:
        return Found("not testable here", note="No such task.")
    brier = scores[(scores["metric"] == "lass:conf_normalized_bs") & scores["task"].isin(tasks)]
    gone = len(tasks) - int(sharper_than_line(brier, "emergence_inf").sum())
    floor = scores[scores["accuracy"] & scores["task"].isin(tasks)]
    already = len(tasks) - int(sharper_than_line(floor, "emergence_floor").sum())
    note = f"Tasks: {', '.join(tasks)}. A floor at the test's resolution alone removes {already} of {len(tasks)}."
    return _share(gone, len(tasks), "holds" if gone == len(tasks) else "mixed" if gone else "fails", note)


def _bigg_zero_median(scores: pd.DataFrame) -> Found:
    rows = scores[scores["accuracy"]]
    infinite, flat = np.isinf(rows["emergence_inf"]), rows["range"] == 0
    top = rows[~infinite].sort_values("emergence_inf").iloc[-1]
    note = (
        f"{infinite.sum()} are infinite and {flat.sum()} flat (0/0). The largest finite score is {top['emergence_inf']:.1f} "
        f"({top['task']}). With the step floored at what the test resolves {np.isinf(rows['emergence_floor']).sum()} are "
        f"infinite and the largest is {rows['emergence_floor'].max():.1f}."
    )
    unusable = int((infinite | flat).sum())
    return _share(unusable, len(rows), "fails" if unusable else "holds", note)


def _digits_induced(means: pd.DataFrame) -> Found:
    curve = means.pivot(index="params", columns="K", values="mean").sort_index()
    unable = int(((curve[1] > 0.2) & (curve[5] < 0.05)).sum())
    note = f"The widest network reaches {curve[5].iloc[-1]:.2f} at K = 5."
    status: Status = "holds" if unable >= 2 and curve[5].iloc[-1] > 0.5 else "mixed" if unable else "fails"
    return Found(status, float(unable), n=len(curve), note=note)


def _digits_power(means: pd.DataFrame) -> Found:
    first = means[means["K"] == 1].set_index("params")["mean"]
    rows = means[(means["K"] > 1) & means["low"].notna()]
    law = rows["params"].map(first) ** rows["K"]
    found = _share(int(((rows["low"] <= law) & (law <= rows["high"])).sum()), len(rows), "holds")
    return found if (found.high or 0) >= 0.95 else found._replace(status="mixed")


CLAIMS = (
    Claim(
        "toy_edit_distance",
        "Under token edit distance models improve smoothly: the score is a straight line in the per-token probability.",
        "section 2, figure 2E",
        "R² of a straight line through simulated edit distances (L = 5, vocabulary 1000) against the true per-token "
        "success; holds above .999.",
        ("toy",), _toy_edit_distance, SIMULATED, "toy_panels",
    ),
    Claim(
        "toy_exact_match",
        "Exact match of the same models falls geometrically with the length of the answer: it is p to the power L.",
        "section 2, figure 2C",
        "Share of simulated cells (models x lengths) whose 95% interval holds p^L; holds unless significantly below .95.",
        ("toy",), _toy_exact_match, SIMULATED, "toy_panels",
    ),
    Claim(
        "toy_multiple_choice",
        "A discontinuous metric (multiple choice grade) jumps where a continuous one of the same outputs (Brier) is smooth.",
        "section 2, figure 2D and 2F",
        "Largest step between neighbouring sizes as a share of the range, equal questions; holds if above .9 for the grade "
        "and below .25 for the Brier score.",
        ("toy",), _toy_multiple_choice, SIMULATED, "toy_panels",
    ),
    Claim(
        "toy_small_tests",
        "With too few test items, small models that do have some ability score zero.",
        "section 2; appendix A",
        "Share of simulated models that score exactly 0 on 100 items at L = 5, although p^5 > 0; holds if any does.",
        ("toy",), _toy_small_tests, SIMULATED, "toy_resolution",
    ),
    Claim(
        "arithmetic_metric_swap",
        "Replacing accuracy by edit distance on the same answers turns a sharp change with scale into a smooth one.",
        "section 3, first prediction; figure 3",
        "Decades of scale between 10% and 90% of the change, edit distance over accuracy, paired bootstrap over items; holds "
        "if above 1 and no single step makes half of the change, mixed if only wider.",
        ("instructgpt", "instructgpt_tests"), _arithmetic_swap, GPT, "arithmetic",
    ),
    Claim(
        "arithmetic_above_chance",
        "Given enough test items, every model is above chance at every answer length.",
        "section 3, second prediction; figure 4",
        "Share of (model, length) cells whose 95% lower end is above 10^-L, the chance of a random string of digits.",
        ("instructgpt",), _arithmetic_above_chance, GPT, "arithmetic_resolution",
    ),
    Claim(
        "arithmetic_above_digits",
        "The same holds against a stricter guess, which knows the commonest digit of every position.",
        "section 3, second prediction, with our chance level",
        "Share of (model, length) cells whose 95% lower end is above the product over positions of the commonest digit's "
        "share; at one digit that is .90, since most such products are 0.",
        ("instructgpt",), _arithmetic_above_digits, GPT, "arithmetic_resolution", True,
    ),
    Claim(
        "arithmetic_small_tests",
        "On small tests, abilities that larger tests reveal look absent.",
        "section 3, figure 4",
        "Share of (model, length) cells that score 0 on 20 items and above 0 on all; holds if any does.",
        ("instructgpt",), _arithmetic_small_tests, GPT, "arithmetic_resolution",
    ),
    Claim(
        "arithmetic_geometric",
        "Accuracy falls geometrically with answer length, as if digits were independent.",
        "section 3, third prediction",
        "Share of (model, length) cells whose independence ratio, the rate of all digits right over the product of each "
        "digit's rate, has a 95% interval without 1; fails if most do.",
        ("instructgpt_tests",), _arithmetic_geometric, GPT, "arithmetic_length",
    ),
    Claim(
        "arithmetic_linear",
        "Edit distance grows about linearly with answer length.",
        "section 3, third prediction",
        "Largest distance from a line through the origin as a share of the model's largest score, worst model; holds below "
        ".1 for every model, mixed if for some.",
        ("instructgpt", "instructgpt_tests"), _arithmetic_linear, GPT, "arithmetic_length",
    ),
    Claim(
        "addition",
        "Four-digit addition shows the same two pictures as multiplication.",
        "section 3, figure 3",
        "Needs stored completions of 4-digit additions by a family of models.",
    ),
    Claim(
        "bigg_rare",
        "Few tasks look emergent.",
        "section 4, figure 5 (the paper counts metrics; these data hold one accuracy a task)",
        "Share of 85 tasks whose floored emergence score is above a straight line's (11 over twelve sizes); holds if "
        "significantly below a quarter.",
        ("bigg_scores", "bigg_noise"), _bigg_rare, BIGG, "bigg_scores",
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
        "Of the multiple-choice tasks of 100 items and more whose accuracy scores above a straight line (11, by the score as "
        "printed), the share that does not under the Brier score of the model's confidence in its own answer; holds if all, "
        "mixed if some.",
        ("bigg_scores",), _bigg_continuous, BIGG, "bigg_brier",
    ),
    Claim(
        "bigbench_brier",
        "LaMDA's emergence under multiple choice grade is gone under the Brier score of the right option.",
        "section 4, figure 6",
        "Needs the probability of every option; the Brier scores at hand are of the model's confidence.",
    ),
    Claim(
        "autoencoders",
        "Shallow autoencoders seem to learn to reconstruct at a certain size, if a hard threshold scores them.",
        "section 5, figure 7",
        "Needs the autoencoder family, which this version does not train.",
    ),
    Claim(
        "omniglot",
        "Small transformers seem to learn to classify whole sequences of Omniglot images at a certain size.",
        "section 5, figure 8",
        "Needs the transformer family, which this version does not train.",
    ),
    Claim(
        "digits_induced",
        "A harsher metric induces seeming emergence: classifiers that improve image by image look unable until a certain "
        "size when all of K images must be right.",
        "appendix B.1, figure 10",
        "Number of widths with accuracy above .2 (twice chance) whose chance of 5 of 5 is below .05; holds from two widths on "
        "if the widest network is above .5.",
        ("digits_cnn_curve",), _digits_induced, DIGITS, "digits_cnn",
    ),
    Claim(
        "digits_power",
        "For independent test images, K-of-K accuracy is the K-th power of accuracy.",
        "appendix B.1",
        "Share of (width, K) cells whose 95% interval over images and seeds holds the mean accuracy to the K-th power; holds "
        "unless significantly below .95.",
        ("digits_cnn_curve",), _digits_power, DIGITS, "digits_cnn",
    ),
    Claim(
        "emergence_score_finite",
        "The emergence score as printed is a usable number for every task.",
        "equation 1",
        "Share of 85 tasks whose median step is zero, so that the score divides by zero.",
        ("bigg_scores",), _bigg_zero_median, BIGG, "bigg_scores", True,
    ),
    Claim(
        "erratum_sign",
        "The expected edit distance at error rate e is L(1 - e).",
        "appendix A, equations 9 and 10",
        "Largest gap between simulated edit distance (L = 20, vocabulary 1000) and L(1 - e), in tokens.",
        ("toy",), _erratum_sign, SIMULATED, "toy_panels", True,
    ),
    Claim(
        "erratum_alignment",
        "The edit distance is at least the number of mismatched positions.",
        "appendix A, equation 6",
        "Share by which simulated edit distance falls below the expected mismatches, largest over models (L = 20, "
        "vocabulary 10): a minimum over alignments is at most the mismatches.",
        ("toy",), _erratum_alignment, SIMULATED, "toy_panels", True,
    ),
    Claim(
        "erratum_resolution",
        "The resolution of accuracy on N items of length L is 1/(NL).",
        "appendix A, equation 19",
        "Share of simulated accuracies on 20 items of 5 tokens that are no multiple of 1/20: an item gives one bit, so the "
        "resolution is 1/N.",
        ("toy",), _erratum_resolution, SIMULATED, "toy_resolution", True,
    ),
)  # fmt: skip


def ledger(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Every claim as a record of FIELDS; those whose tables are absent are not testable here."""
    return [_record(claim, tables) for claim in CLAIMS]


def _record(claim: Claim, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    absent = [name for name in claim.needs if name not in tables]
    if claim.measure is None:
        found = Found("not testable here")
    elif absent:
        found = Found("not testable here", note=f"Not run: {', '.join(absent)} absent, see what was skipped.")
    else:
        found = claim.measure(*(tables[name] for name in claim.needs))
    words = {name: getattr(claim, name) for name in ("id", "claim", "where", "data", "figure", "ours")}
    numbers = {name: getattr(found, name) for name in ("value", "low", "high", "n", "status")}
    record = words | numbers | {"test": f"{claim.test} {found.note}".strip()}
    return {field: record[field] for field in FIELDS}
