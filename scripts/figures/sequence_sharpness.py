"""How sharply each text metric falls, by length, process and vocabulary."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, level, log_axis, panels
from mirage_jax.table import read_setting, select

TABLES = ("sequence_metrics_sharpness",)
DATA = "simulated"
TITLE = "Sharpness of text metrics: a property of the metric, the length, and of how errors hang together"
CAPTION = (
    "Sharpness index: the steepest slope between neighbouring error rates over the mean slope from 0 to .5; 1 for a "
    "straight line, a little more where few answers are drawn. Intervals: 95% for all steps of a curve together (1,024 "
    "answers each, 256 from 50 tokens on; 65,536 and 16,384 in the full preset). Vocabulary 1000 but in D. A: independent "
    "errors, by length; exact match alone gets ever sharper. Its law is that of (1 - epsilon)^L on the same error rates, "
    "which bound how steep it can look. B: by process; a cascade makes even edit distance and ROUGE-L sharp. C: elasticity "
    "d log score / d log(1 - epsilon), with two standard errors, from no errors to where half of the score is left: L for "
    "exact match, 2.5, 2 and 1 (grey lines) for BLEU-4, ROUGE-2 and ROUGE-L. D: with a vocabulary of 10, overlaps of long "
    "answers are no longer straight: matches by chance hide most errors but the first."
)
METRICS = {
    "exact_match": "exact match",
    "rouge_2": "ROUGE-2",
    "bleu_4": "BLEU-4",
    "token_edit_distance_normalised": "edit distance",
    "rouge_l": "ROUGE-L",
    "rouge_1": "ROUGE-1",
}
PROCESSES = {  # and the length at which they are shown
    "independent": ("independent", 20),
    "markov": ("Markov", 20),
    "cascade": ("cascade", 20),
    "insert_delete_substitute": ("ins/del/sub\nL = 10", 10),
}
APART = 0.13
TICKS = (1, 2, 5, 10, 20, 50, 100)


def draw(sharpness: pd.DataFrame) -> Figure:
    """Sharpness by length, process and vocabulary, and the elasticity."""
    figure, (a, b, c, d) = panels(2, 2, height=2.8)
    rows = sharpness[(sharpness["source"] == "simulated") & (sharpness["task"] == "tokens")]
    for kind, (metric, name) in enumerate(METRICS.items()):
        of = rows[rows["metric"] == metric].sort_values("length")
        of = select(of, smooth="exp") if metric == "bleu_4" else of
        many, few = (select(of, process="independent", vocabulary=size) for size in (1000, 10))
        for ax, alone in ((a, many), (d, few)):
            alone = alone[alone["sharpness"].notna()]
            curve(ax, alone["length"], *_band(alone), label=name, kind=kind)
        place = kind - (len(METRICS) - 1) / 2
        _by_process(b, select(of, vocabulary=1000), name, kind, APART * place)
        known = many[many["elasticity"].notna()]
        x, y, se = (known[column].to_numpy(float) for column in ("length", "elasticity", "elasticity_se"))
        curve(c, x, y, y - 2 * se, y + 2 * se, label=name, kind=kind, line=metric == "exact_match")
    law = sharpness[(sharpness["source"] == "closed_form") & (sharpness["metric"] == "exact_match")]
    law = law[law["setting"] == "process=independent"].sort_values("length")
    curve(a, law["length"], law["sharpness"], label="law of exact match", kind=6, marker=False)
    for ax, title in ((a, "A by length"), (c, "C elasticity"), (d, "D by length, vocabulary 10")):
        log_axis(ax, "x", sorted(set(map(float, law["length"]))))
        ax.set(title=title, xlabel="tokens of the answer", ylabel="elasticity" if ax is c else "sharpness index")
    for ax in (a, b, c, d):
        log_axis(ax, "y", TICKS)
        ax.set_ylim(0.7, 150 if ax is c else 60)
    for ax in (a, b, d):
        level(ax, 1.0, "straight line")
    for kind, power in enumerate((1.0, 2.0, 2.5)):
        level(c, power, f"power {power:g}", kind)
    b.set(title="B by process, 20 tokens", xticks=range(len(PROCESSES)), ylabel="sharpness index")
    b.set_xticklabels([name for name, _ in PROCESSES.values()])
    figure.legend(*a.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _by_process(ax: Axes, rows: pd.DataFrame, name: str, kind: int, aside: float) -> None:
    process = pd.Series([read_setting(text)["process"] for text in rows["setting"]], index=rows.index)
    shown = [(process == key) & (rows["length"] == length) for key, (_, length) in PROCESSES.items()]
    of = [(place, rows[which]) for place, which in enumerate(shown) if which.any()]
    place = np.array([place + aside for place, _ in of])
    curve(ax, place, *_band(pd.concat([row for _, row in of])), label=name, kind=kind, line=False)


def _band(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index and interval; what cannot be told from 0 is drawn down to a tenth of a line."""
    value, low, high = (rows[name].to_numpy(float) for name in ("sharpness", "sharpness_low", "sharpness_high"))
    return value, np.maximum(low, 0.1), high
