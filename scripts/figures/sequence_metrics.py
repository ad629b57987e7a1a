"""Metrics of the same simulated answers against the error rate per token (appendix A of the paper)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, panels
from mirage_jax.table import select

TABLES = ("sequence_metrics",)
DATA = "simulated"
TITLE = "The same errors, sharp or smooth by choice of metric"
CAPTION = (
    "Scores of simulated answers against the error rate per token. Points: means with 95% intervals (1,024 answers each, "
    "256 where L = 100; 65,536 and 16,384 in the full preset), the same draws at every rate. Lines: closed forms, "
    "independent errors by tokens seen nowhere else; in E and F the exact law of each process. Vocabulary 1,000 unless V "
    "says otherwise. A: only whole answers are sharp, and the more so the longer. B: edits grow in a straight line for "
    "1,000 tokens and for 10; not so in a cascade, where every token after an error is wrong. C: overlaps are straight or "
    "nearly so; the law of BLEU is that of a corpus, and without smoothing single answers fall below it. D: digits and "
    "letters; numeric match (within 10%, no law, points joined) asks for the first digits alone and follows no power. E, F: "
    "how errors hang together moves exact match, and only a cascade moves ROUGE-L (a few matches by chance stand above the "
    "line)."
)
LAWS = {
    "independent": {},
    "markov": {"correlation": 0.5},
    "beta_mixed": {"overdispersion": 0.3},
    "cascade": {"after": 1.0},
}
NAMES = {"independent": "independent", "markov": "Markov", "beta_mixed": "beta-mixed", "cascade": "cascade"}


def draw(sequences: pd.DataFrame) -> Figure:
    """Panels A to F."""
    figure, (a, b, c, d, e, f) = panels(3, 2, height=2.55)
    for kind, length in enumerate((1, 5, 20, 100)):
        _pair(a, sequences, "exact_match", length, f"L = {length}", kind)
    for kind, (label, length, size) in enumerate(
        (("L = 20", 20, 1000), ("L = 20, V = 10", 20, 10), ("L = 5", 5, 1000))
    ):
        _pair(b, sequences, "token_edit_distance_normalised", length, label, kind, vocabulary=size)
    _pair(b, sequences, "token_edit_distance_normalised", 20, "L = 20, cascade", 3, process="cascade")
    overlaps = (
        ("ROUGE-L", "rouge_l", None), ("ROUGE-2", "rouge_2", None), ("BLEU-4", "bleu_4", "exp"),
        ("BLEU-4, not smoothed", "bleu_4", "none"),
    )  # fmt: skip
    for kind, (label, metric, smooth) in enumerate(overlaps):
        _pair(c, sequences, metric, 20, label, kind, smooth=smooth)
    characters = (
        ("exact, no case", "exact_match_caseless", "letters"), ("chrF, letters", "chrf", "letters"),
        ("chrF, digits", "chrf", "digits"), ("numeric match", "numeric_match", "digits"),
    )  # fmt: skip
    for kind, (label, metric, task) in enumerate(characters):
        _pair(d, sequences, metric, 10, label, kind, task=task)
    for kind, process in enumerate(LAWS):
        _pair(e, sequences, "exact_match", 20, NAMES[process], kind, process=process)
        _pair(f, sequences, "rouge_l", 20, NAMES[process], kind, law="token_accuracy", process=process)
    told = (
        ("A whole answers right", "exact match"), ("B edits", "edits per token"), ("C overlap, L = 20", "score"),
        ("D characters, L = 10", "score"), ("E whole answers, L = 20", "exact match"), ("F overlap, L = 20", "ROUGE-L"),
    )  # fmt: skip
    for ax, (title, unit) in zip((a, b, c, d, e, f), told, strict=True):
        ax.set(title=title, xlabel="error rate per token", ylabel=unit, xlim=(-0.01, 0.51), ylim=(-0.03, 1.03))
        ax.legend(loc="upper right")
    b.legend(loc=(0.52, 0.46))  # these where no curve is
    c.legend(loc="lower left")
    f.legend(loc=(0.6, 0.13))
    return figure


def _pair(
    ax: Axes, sequences: pd.DataFrame, metric: str, length: int, label: str, kind: int, *, law: str | None = None,
    task: str = "tokens", process: str = "independent", vocabulary: int | None = None, smooth: str | None = None,
) -> None:  # fmt: skip
    """A law as a line and its draws as points, or points joined by a line where there is no law."""
    rows = sequences[sequences["length"] == length].sort_values("scale")
    known = rows[(rows["source"] == "closed_form") & (rows["metric"] == (law or metric))]
    known = select(known[known["task"].isin(["tokens", task])], process=process, **LAWS[process])
    size = {"tokens": 1000, "digits": 10, "letters": 52}[task] if vocabulary is None else vocabulary
    drawn = rows[(rows["source"] == "simulated") & (rows["metric"] == metric) & (rows["task"] == task)]
    drawn = select(drawn, process=process, vocabulary=size, smooth=smooth, **LAWS[process])
    curve(ax, known["scale"], known["score"], label=f"{label}, law", kind=kind, marker=False, named=False)
    x, y, low, high = (drawn[name] for name in ("scale", "score", "low", "high"))
    curve(ax, x, y, low, high, label=label, kind=kind, line=known.empty)
