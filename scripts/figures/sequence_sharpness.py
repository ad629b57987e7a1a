"""How sharply each text metric falls, by length and process."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, level, log_axis, panels
from mirage_jax.table import read_setting, select

TABLES = ("sequence_metrics_sharpness",)
DATA = "simulated"
TITLE = "Sharpness of text metrics: a property of the metric, the length, and of how errors hang together"
CAPTION = (
    "Sharpness index: the steepest slope between neighbouring error rates over the mean slope from 0 to .5; 1 for a "
    "straight line. Intervals: 95% for all steps of a curve together. A: independent errors, by length of the answer; the "
    "law is that of (1 - epsilon)^L on the same error rates, which bound how steep it can look. B: answers of 20 tokens (10 "
    "with insertions and deletions), by process. Only whole answers get sharper with length without end; a cascade makes "
    "even edit distance and ROUGE-L sharp."
)
METRICS = {
    "exact_match": "exact match",
    "rouge_2": "ROUGE-2",
    "bleu_4": "BLEU-4",
    "token_edit_distance_normalised": "edit distance",
    "rouge_l": "ROUGE-L",
}
PROCESSES = {  # and the length at which they are shown
    "independent": ("independent", 20),
    "markov": ("Markov", 20),
    "cascade": ("cascade", 20),
    "insert_delete_substitute": ("ins/del/sub, L = 10", 10),
}
APART = 0.13


def draw(sharpness: pd.DataFrame) -> Figure:
    """Sharpness against length, and by process."""
    figure, (a, b) = panels(1, 2, height=3.3)
    rows = select(sharpness[(sharpness["source"] == "simulated") & (sharpness["task"] == "tokens")], vocabulary=1000)
    for kind, (metric, name) in enumerate(METRICS.items()):
        of = rows[rows["metric"] == metric]
        of = select(of, smooth="exp") if metric == "bleu_4" else of
        of = of.assign(process=[read_setting(text)["process"] for text in of["setting"]])
        alone = of[(of["process"] == "independent") & of["sharpness"].notna()].sort_values("length")
        curve(a, alone["length"], *_band(alone), label=name, kind=kind)
        same = pd.concat([of[(of["process"] == p) & (of["length"] == length)] for p, (_, length) in PROCESSES.items()])
        place = np.array([list(PROCESSES).index(process) for process in same["process"]]) + APART * (kind - 2)
        curve(b, place, *_band(same), label=name, kind=kind, line=False)
    law = sharpness[(sharpness["source"] == "closed_form") & (sharpness["metric"] == "exact_match")]
    law = law[law["setting"] == "process=independent"].sort_values("length")
    curve(a, law["length"], law["sharpness"], label="law of exact match", kind=5, marker=False)
    log_axis(a, "x", sorted(set(map(float, law["length"]))))
    for ax in (a, b):
        log_axis(ax, "y", (1, 2, 5, 10, 20, 50))
        ax.set_ylim(0.7, 60)
        level(ax, 1.0, "straight line")
    a.set(title="A independent errors", xlabel="tokens of the answer", ylabel="sharpness index")
    b.set(title="B answers of 20 tokens", xticks=range(len(PROCESSES)), ylabel="sharpness index")
    b.set_xticklabels([name.replace(", ", "\n") for name, _ in PROCESSES.values()])
    figure.legend(*a.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _band(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index and interval; what cannot be told from 0 is drawn down to a tenth of a line."""
    value, low, high = (rows[name].to_numpy(float) for name in ("sharpness", "sharpness_low", "sharpness_high"))
    return value, np.maximum(low, 0.1), high
