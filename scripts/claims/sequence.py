"""Text metrics against the per-token error rate (appendix A of the paper)."""

import numpy as np
import pandas as pd

from mirage_jax.table import read_setting, select
from scripts.claims.record import Claim, Found, Status

DATA = "simulated"
LENGTH = 20


def independent(sharpness: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Simulated curves of one metric under independent errors and the large vocabulary, by length."""
    rows = sharpness[(sharpness["metric"] == metric) & (sharpness["source"] == "simulated")]
    rows = select(rows[rows["task"] == "tokens"], process="independent", vocabulary=1000)
    return rows.sort_values("length")


def _rouge_falls(sharpness: pd.DataFrame) -> Found:
    rows = sharpness[(sharpness["metric"] == "rouge_l_sum") & (sharpness["fall"] >= 0.1)]
    rows = rows.astype({name: float for name in ("share", "share_low", "share_high", "sharpness", "steepest_from")})
    top = rows.iloc[int(rows["share"].to_numpy().argmax())]
    process = rows["setting"].map(lambda text: read_setting(text)["process"])
    steep = rows.groupby(process)["sharpness"].max()
    status: Status = "holds" if (rows["share_low"] > 0.5).any() else "fails" if top["share"] < 0.5 else "mixed"
    told = ", ".join(f"{name} {value:.1f}" for name, value in steep.items())
    open_ = int((rows["share_high"] > 0.5).sum())
    note = (
        f"{len(rows)} settings fall by .1 or more; {open_} of them cannot be told from .5 with so few answers. Largest "
        f"sharpness (1 for a line): {told}; under a cascade the fall is steepest at the smallest error rates, not there."
    )
    return Found(status, float(top["share"]), float(top["share_low"]), float(top["share_high"]), len(rows), note)


def _elasticity(sharpness: pd.DataFrame) -> Found:
    rows = independent(sharpness, "exact_match")
    found, se, length = (rows[name].to_numpy(float) for name in ("elasticity", "elasticity_se", "length"))
    near = bool(np.all(np.abs(found - length) <= 4 * se))
    at = int(np.argmax(length == LENGTH))
    return Found(
        "holds" if near else "fails", found[at], found[at] - 2 * se[at], found[at] + 2 * se[at], int(rows["n"].iloc[at])
    )


def _rouge_linear(sharpness: pd.DataFrame) -> Found:
    row = independent(sharpness, "rouge_l").query("length == @LENGTH").iloc[0]
    value, low, high = (float(row[name]) for name in ("sharpness", "sharpness_low", "sharpness_high"))
    status: Status = "holds" if high < 2 else "mixed" if value < 2 else "fails"
    return Found(status, value, low, high, int(row["n"]))


def _edits_linear(sequence_metrics: pd.DataFrame) -> Found:
    rows = sequence_metrics[sequence_metrics["metric"] == "token_edit_distance"]
    rows = rows[rows["source"] == "simulated"]

    def straight(of: pd.DataFrame) -> dict[tuple[str, int], float]:
        curves = of.groupby(["setting", "length"])
        return {key: float(np.corrcoef(one["scale"], one["score"])[0, 1] ** 2) for key, one in curves}  # pyright: ignore

    alone, chained = (straight(select(rows, process=process)) for process in ("independent", "cascade"))
    least, worst = min(alone.values()), min(chained.values())
    note = f"In a cascade it is not: R² down to {worst:.2f}."
    return Found("holds" if least > 0.99 else "fails", least, n=len(alone), note=note)


def _overlap_by_chance(sharpness: pd.DataFrame) -> Found:
    rows = sharpness[(sharpness["metric"] == "rouge_1") & (sharpness["source"] == "simulated")]
    rows = rows[rows["length"] == rows["length"].max()]
    few, many = (select(rows, process="independent", vocabulary=size).iloc[0] for size in (10, 1000))
    value, low, high = (float(few[name]) for name in ("sharpness", "sharpness_low", "sharpness_high"))
    note = f"With 1,000 tokens it is {float(many['sharpness']):.2f}."
    return Found("holds" if low > 1.5 else "mixed" if value > 1.5 else "fails", value, low, high, int(few["n"]), note)


def _cascade(sharpness: pd.DataFrame) -> Found:
    rows = sharpness[(sharpness["metric"] == "token_edit_distance") & (sharpness["source"] == "simulated")]
    row = select(rows[rows["length"] == LENGTH], process="cascade").iloc[0]
    value, low, high = (float(row[name]) for name in ("sharpness", "sharpness_low", "sharpness_high"))
    return Found("holds" if low > 2 else "mixed" if value > 2 else "fails", value, low, high, int(row["n"]))


def _bleu(sequence_metrics: pd.DataFrame) -> Found:
    rows = sequence_metrics[(sequence_metrics["metric"] == "bleu_4") & (sequence_metrics["length"] == 100)]
    drawn = select(rows[rows["source"] == "simulated"], process="independent", vocabulary=1000, smooth="exp")
    law = rows[rows["source"] == "closed_form"].set_index("scale")["score"]
    gap = (drawn["score"].astype(float) - drawn["scale"].map(law)).abs()
    worst, at = float(gap.max()), float(drawn["scale"].iloc[int(gap.to_numpy().argmax())])
    status: Status = "holds" if worst < 0.05 else "fails"
    return Found(status, worst, n=len(drawn), note=f"Largest at error rate {at:g}.")


CLAIMS = (
    Claim(
        "rouge_l_sum_falls",
        "ROUGE-L-Sum falls sharply between error rates .05 and .1.",
        "appendix A.4, figure 9",
        "Largest share of the whole fall (error rates 0 to .5) that lies between .05 and .1, over processes (independent, "
        "cascade, insert/delete/substitute), vocabularies, sentences, references, the best of them and all stitched together; "
        "a line has .1. Holds if some setting is surely above half, fails if none reaches it. The paper prints no set-up.",
        ("sequence_metrics_sharpness",), _rouge_falls, DATA, "rouge_l_sum",
    ),
    Claim(
        "edit_distance_linear",
        "The expected edit distance is linear in the error rate per token.",
        "appendix A.1",
        "Smallest R² of a straight line through simulated edit distance against error rates from 0 to .5, independent errors, "
        "over lengths from 1 to 100 and vocabularies of 1,000 and 10; holds above .99.",
        ("sequence_metrics",), _edits_linear, DATA, "sequence_metrics",
    ),
    Claim(
        "rouge_l_linear",
        "ROUGE-L is no sharp metric of independent errors: it falls in a straight line.",
        "appendix A.4 calls ROUGE-L-Sum nonlinear",
        "Sharpness index (steepest slope over mean slope, 1 for a line) of ROUGE-L, 20 tokens, vocabulary 1000; holds if it is "
        "surely below 2.",
        ("sequence_metrics_sharpness",), _rouge_linear, DATA, "sequence_metrics", True,
    ),
    Claim(
        "exact_match_elasticity",
        "Exact match falls L times as fast, in logs, as the per-token success.",
        "appendix A.2, from (1 - epsilon)^L",
        "Elasticity d log M / d log(1 - epsilon) of simulated answers of 20 tokens; holds if it is within 4 standard errors "
        "of L at every length.",
        ("sequence_metrics_sharpness",), _elasticity, DATA, "sequence_sharpness",
    ),
    Claim(
        "bleu_power",
        "BLEU-4 of independent errors is the per-token success to the power 2.5.",
        "not in the paper",
        "Largest distance of simulated sentence BLEU-4 (100 tokens, vocabulary 1000) from the corpus law (1 - epsilon)^2.5; "
        "holds below .05. Sentences differ from the corpus by the curvature of the geometric mean and by smoothing.",
        ("sequence_metrics",), _bleu, DATA, "sequence_metrics", True,
    ),
    Claim(
        "edit_distance_needs_independence",
        "Edit distance itself is sharp where one error leads to the next.",
        "not in the paper, which takes edit distance to be linear",
        "Sharpness index of token edit distance under a cascade (all tokens after the first error wrong), 20 tokens; holds if "
        "it is surely above 2. Law: sum over l of 1 - (1 - epsilon)^l.",
        ("sequence_metrics_sharpness",), _cascade, DATA, "sequence_sharpness", True,
    ),
    Claim(
        "overlap_needs_vocabulary",
        "Where few different tokens are in use, overlap of long answers is sharp: chance hides all errors but the first.",
        "not in the paper",
        "Sharpness index of ROUGE-1 of 100 tokens out of 10, independent errors; holds if it is surely above 1.5.",
        ("sequence_metrics_sharpness",), _overlap_by_chance, DATA, "sequence_sharpness", True,
    ),
)  # fmt: skip
