"""Claims on published scores of other families: the metric swap, verdicts, checkpoints, and the loss axis."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

import mirage_jax
from mirage_jax.null import benjamini_hochberg
from mirage_jax.plotting import compact
from mirage_jax.table import select
from scripts.claims.bigbench import sharper_than_line
from scripts.claims.record import Claim, Found, Status, share

BIGG = "BIG-G scores, derived from wschella/lass"
OBS = "ObsScaling, scores of public base models"
PYTHIA = "Pythia, OPT and BLOOM evaluations, derived from EleutherAI/pythia"
OPENLM = "OpenLM models, derived from mlfoundations/scaling"
ACCURACY = ("exact_match", "multiple_choice_grade")
SWAPPED = "ipa_transliterate"
ENOUGH = 4  # scales of a family in the metric swap
CLEAR = 10  # a range of so many binomial errors is no noise
WELL = 0.9  # of the variance explained by the loss
HINGE = 10.0  # AICc by which a hinge must win
PUBLISHED = {"multiple_choice_grade": 51, "exact_match": 11}  # of 67 hand-annotated tasks


def decided(verdicts: pd.DataFrame) -> pd.Series:
    """Whether a curve got a label that says something of it."""
    return ~verdicts["label"].str.startswith("INSUFFICIENT")


def _both(scores: pd.DataFrame) -> pd.DataFrame:
    """Emergence scores as printed of the families that hold the task under both metrics."""
    rows = scores[(scores["task"] == SWAPPED) & (scores["scales"] >= ENOUGH)]
    return (
        rows.pivot(index="family", columns="metric", values="emergence_inf")
        .reindex(columns=["exact_match", "bleu_4"])
        .dropna()
    )


def _swap(scores: pd.DataFrame) -> Found:
    pairs = _both(scores)
    if pairs.empty:
        return Found("not testable here", note="No such family.")
    lower = pairs["bleu_4"] < pairs["exact_match"]
    told = "; ".join(f"{family} {row.exact_match:.1f} to {row.bleu_4:.1f}" for family, row in pairs.iterrows())
    status: Status = "holds" if lower.all() else "mixed" if lower.any() else "fails"
    return share(int(lower.sum()), len(pairs), status, f"{told}.")


def _swap_smooth(scores: pd.DataFrame) -> Found:
    pairs = _both(scores)
    rows = scores[(scores["task"] == SWAPPED) & (scores["metric"] == "bleu_4")].set_index("family").loc[pairs.index]
    was = pairs["exact_match"] > rows["scales"] - 1
    if not was.any():
        return Found("not testable here", note="No family is above a straight line under exact match.")
    gone = was & ~sharper_than_line(rows, "emergence_inf")
    status: Status = "holds" if gone.sum() == was.sum() else "mixed" if gone.any() else "fails"
    left = ", ".join(sorted(rows.index[was & ~gone])) or "none"
    return share(int(gone.sum()), int(was.sum()), status, f"Still above a straight line under BLEU: {left}.")


def _decided(verdicts: pd.DataFrame) -> Found:
    rows = verdicts[verdicts["metric"].isin(ACCURACY)]
    known = decided(rows)
    labels = ", ".join(f"{count} {label}" for label, count in rows["label"].value_counts().items())
    small = known[rows["n_low"] < 50]
    note = f"{labels}. Of the {small.size} tasks of fewer than 50 items {small.sum()}."
    return share(int(known.sum()), len(rows), "holds" if known.mean() < 0.5 else "fails", note)


def _sharp_undecided(scores: pd.DataFrame, verdicts: pd.DataFrame) -> Found:
    sharp = scores[scores["accuracy"] & sharper_than_line(scores, "emergence_inf")]
    labels = sharp.merge(verdicts, on=["task", "metric"])["label"]
    if labels.empty:
        return Found("not testable here", note="No task scores above a straight line.")
    jumps = int(labels.isin(["UNEXPLAINED_JUMP", "THRESHOLD_SURVIVES"]).sum())
    told = ", ".join(f"{count} {label}" for label, count in labels.value_counts().items())
    return share(jumps, len(labels), "fails" if jumps else "holds", f"Their labels: {told}.")


def _annotated(metric: str, scores: pd.DataFrame) -> Found:
    accuracy = scores[scores["accuracy"]]
    own = accuracy["metric"] == metric
    sharp, chance = sharper_than_line(accuracy, "emergence_inf"), benjamini_hochberg(accuracy["p"]) <= 0.05
    note = (
        f"Of {len(accuracy)} tasks {own.sum()} stand under this metric to begin with ({own.mean():.0%}); of the {sharp.sum()} "
        f"above a straight line, as printed, {(own & sharp).sum()}; of the {chance.sum()} above chance at a false discovery "
        f"rate of 5%, {(own & chance).sum()}. Figure meta_analysis shows the share at every threshold."
    )
    return Found("not testable here", note=note)


def _lamda(scores: pd.DataFrame, verdicts: pd.DataFrame) -> Found:
    listed = pd.read_csv(Path(mirage_jax.__file__).parent / "wei2022_bigbench.csv")
    names = set(listed.loc[listed["model"] == "LaMDA 137B", "task"])
    accuracy = scores[scores["accuracy"]].assign(q=lambda df: benjamini_hochberg(df["p"]))
    rows = accuracy[accuracy["task"].isin(names)]
    if rows.empty:
        return Found("not testable here", note="None of them is among the tasks.")
    rows = rows.merge(verdicts[["task", "metric", "label"]], on=["task", "metric"])
    told = "; ".join(f"{r.task} ({r.n} items) E {r.emergence_floor:.1f}, {r.label}" for r in rows.itertuples())
    above = int((rows["q"] <= 0.05).sum())
    status: Status = "holds" if above == len(rows) else "mixed" if above else "fails"
    return share(above, len(rows), status, f"{told}.")


def _collapse(found: pd.DataFrame) -> Found:
    rows = found[found["range"] > CLEAR * found["noise"]]
    if rows.empty:
        return Found("not testable here", note="No accuracy changes.")
    well = rows["explained"] >= WELL
    apart = ", ".join(sorted(set(rows.loc[~well, "task"]))) or "none"
    note = (
        f"Median {rows['explained'].median():.3f}. Below {WELL}: {apart}. Sizes differ at equal loss with p <= .05 in "
        f"{(found['p'] <= 0.05).sum()} of all {len(found)} (permutations; {0.05 * len(found):.0f} would by chance)."
    )
    status: Status = "holds" if well.all() else "mixed" if well.mean() > 0.5 else "fails"
    return share(int(well.sum()), len(rows), status, note)


def _hinge(found: pd.DataFrame) -> Found:
    if found.empty:
        return Found("not testable here", note="No accuracy changes by a tenth.")
    wins = int((found["gain"] > HINGE).sum())
    squad = found.loc[found["task"] == "squad", "eta"]
    note = f"The hinge of squad stands at a loss of {squad.min():.2f} to {squad.max():.2f}." if len(squad) else ""
    return share(wins, len(found), "fails" if wins < 0.5 * len(found) else "mixed", note)


def _by_kind(verdicts: pd.DataFrame, kind: str) -> pd.Series:
    tasks = set(verdicts.loc[verdicts["scale_kind"] == "step", "task"]) & set(
        verdicts.loc[verdicts["scale_kind"] == "params", "task"]
    )
    own = verdicts["family"].isin(verdicts.loc[verdicts["scale_kind"] == "step", "family"])
    return decided(verdicts[(verdicts["scale_kind"] == kind) & verdicts["task"].isin(tasks) & own])


def _checkpoints(verdicts: pd.DataFrame) -> Found:
    sizes, steps = _by_kind(verdicts, "params"), _by_kind(verdicts, "step")
    if not len(sizes) or not len(steps):
        return Found("not testable here", note="No task stands on both axes.")
    note = f"By size {sizes.sum()} of {sizes.size} ({sizes.mean():.0%}). Checkpoints of one run are not independent."
    return share(int(steps.sum()), steps.size, "holds" if steps.mean() > sizes.mean() else "fails", note)


def _plateau(pythia: pd.DataFrame) -> Found:
    rows = select(pythia[(pythia["task"] == "lambada_openai") & (pythia["scale_kind"] == "step")], shots=0)
    wide = rows.pivot(index=["family", "setting", "scale"], columns="metric", values=["score", "se"]).reset_index()
    fell, runs, moved = 0, 0, []
    for _, run in wide.groupby(["family", "setting"]):
        flat = run[run["score", "exact_match"].cummax() == 0].sort_values("scale")
        if len(flat) < 2:
            continue
        first, last = flat.iloc[0], flat.iloc[-1]
        change = first["score", "nll"] - last["score", "nll"]
        runs, fell = runs + 1, fell + int(change > 3 * np.hypot(first["se", "nll"], last["se", "nll"]))
        moved.append(float(change))
    if not runs:
        return Found("not testable here", note="No run starts without a right word.")
    note = f"It falls by {min(moved):.1f} to {max(moved):.1f} nats while no word is right."
    return share(fell, runs, "holds" if fell == runs else "mixed" if fell else "fails", note)


def _monotone(pythia: pd.DataFrame) -> Found:
    rows = pythia[(pythia["task"] == "arithmetic addition") & (pythia["scale_kind"] == "params")]
    wide = rows.pivot(index="setting", columns="scale", values=["low", "high"])
    scales = sorted(rows["scale"].unique())
    falls = {(a, b): wide["low", a] > wide["high", b] for a, b in itertools.pairwise(scales)}
    ever = np.any(list(falls.values()), axis=0)
    places = [f"{compact(a)} to {compact(b)} ({fall.sum()})" for (a, b), fall in falls.items() if fall.any()]
    status: Status = "fails" if ever.all() else "mixed" if ever.any() else "holds"
    return share(int(ever.sum()), len(wide), status, f"It falls from {', '.join(places)}." if places else "")


CLAIMS = (
    Claim(
        "swap_lowers",
        "Under a metric that gives partial credit, the same answers look less emergent.",
        "sections 2 and 4, with BLEU for exact match on families of other makers",
        "Share of the families of four sizes and more whose emergence score of transliteration, as printed, is lower under "
        "BLEU than under exact match; holds if all, mixed if some.",
        ("obs_scaling_scores",), _swap, OBS, "obs_scaling",
    ),
    Claim(
        "swap_smooth",
        "Under a metric that gives partial credit, emergence disappears.",
        "sections 2 and 4, with BLEU for exact match on families of other makers",
        "Of the families of four sizes and more whose transliteration scores above a straight line under exact match, the "
        "share that does not under BLEU; holds if all, mixed if some.",
        ("obs_scaling_scores",), _swap_smooth, OBS, "obs_scaling",
    ),
    Claim(
        "bigg_decided",
        "Most published curves of BIG-bench tasks are too coarse for a verdict.",
        "ours, on the data of figure 5",
        "Share of BIG-G's accuracy curves with a label other than INSUFFICIENT; holds if below one half.",
        ("bigg_verdicts",), _decided, BIGG, "bigg_verdicts", True,
    ),
    Claim(
        "bigg_sharp_labels",
        "A high emergence score is no evidence of a jump.",
        "ours, on the data of figure 5",
        "Share of the accuracy curves above a straight line's score, as printed, that the verdict labels as a jump; holds if "
        "none.",
        ("bigg_scores", "bigg_verdicts"), _sharp_undecided, BIGG, "bigg_verdicts", True,
    ),
    *(
        Claim(
            f"annotated_{metric}",
            f"Of the hand-annotated emergent tasks of BIG-bench {k / 67:.0%} stand under {name}.",
            f"section 4, {k} of 67 tasks; {sum(PUBLISHED.values())} under the two",
            "Needs every BIG-bench task, metric and family; the data at hand hold one family and, for 85 tasks, one accuracy.",
            ("bigg_scores",), lambda scores, metric=metric: _annotated(metric, scores), BIGG, "meta_analysis",
        )
        for (metric, k), name in zip(PUBLISHED.items(), ("multiple choice grade", "exact match"), strict=True)
    ),
    Claim(
        "annotated_lamda",
        "Tasks that were annotated as emergent for LaMDA leap in BIG-G's scores.",
        "section 4; the list is Wei's (2022)",
        "Share of the tasks at hand that the list gives to LaMDA whose emergence score, floored, is above chance at a false "
        "discovery rate of 5% over all 85; holds if all.",
        ("bigg_scores", "bigg_verdicts"), _lamda, BIGG, "bigg_verdicts",
    ),
    Claim(
        "checkpoints_decide",
        "Checkpoints of one model decide more curves than sizes do.",
        "ours, on the tasks that Pythia ran along both",
        "Share of the curves by checkpoint with a label other than INSUFFICIENT; holds if above that of the curves by size.",
        ("pythia_verdicts",), _checkpoints, PYTHIA, "pythia", True,
    ),
    Claim(
        "progress_before_emergence",
        "Models improve where a discontinuous metric still shows nothing.",
        "section 2, on LAMBADA and Pythia's checkpoints",
        "Share of the runs whose negative log-probability of the right word falls, by more than three standard errors, between "
        "the first and the last checkpoint before any word is right; holds if all.",
        ("pythia",), _plateau, PYTHIA, "pythia",
    ),
    Claim(
        "addition_monotone",
        "Ability grows with scale.",
        "section 2, which takes the loss to fall smoothly with scale",
        "Share of the numbers of shots at which addition falls from one size of Pythia to the next, their intervals apart; "
        "holds if none, fails if all.",
        ("pythia",), _monotone, PYTHIA, "pythia",
    ),
    Claim(
        "loss_collapse",
        "Models of one loss score alike, whatever their size.",
        "Du et al. (2024)",
        f"Share of OpenLM's tasks and corpora, of those whose accuracy ranges over {CLEAR} binomial errors and more, whose "
        f"variance one monotone curve against the loss explains to {WELL:.0%}; holds if all, mixed if most.",
        ("openlm_collapse",), _collapse, OPENLM, "openlm",
    ),
    Claim(
        "loss_threshold",
        "Tasks stay at chance down to a loss and leave it there.",
        "Du et al. (2024)",
        f"Share of OpenLM's tasks and corpora whose accuracy a straight hinge at chance fits better, by an AICc of {HINGE:g}, "
        "than smooth curves; accuracy alone never proves a tipping point.",
        ("openlm_thresholds",), _hinge, OPENLM, "openlm",
    ),
)  # fmt: skip
