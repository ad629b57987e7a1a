"""Does ROUGE-L-Sum fall sharply?"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, level, panels
from mirage_jax.table import read_setting, select

TABLES = ("sequence_metrics", "sequence_metrics_sharpness")
DATA = "simulated"
TITLE = "ROUGE-L-Sum falls sharply between error rates .05 and .1 in no setting tried"
CAPTION = (
    "Answers of 20 tokens in 4 sentences (vocabulary 1000) beside the truth, and beside references in which half of the "
    "tokens differ from it: one of them, the best of 5, and 5 stitched together. A: independent errors. B: insertions, "
    "deletions and substitutions, each at a third of the rate. C: a cascade, in which all tokens after an error are wrong. "
    "Points: means of 64 answers (8,192 in the full preset) with 95% intervals, the same draws at every rate; grey: error "
    "rates .05 to .1, where the paper's figure 9 falls sharply. D: the share of the whole fall (0 to .5) that lies there, "
    "with 95% bands, for every setting swept that falls by .1 or more (vocabularies of 1000 and 10, 1 and 4 sentences, 1 to "
    "5 references): a straight line has .1, and no setting reaches one half. Settings share draws, so their bands are not "
    "independent. The paper prints no set-up for its figure 9."
)
PROCESSES = {"independent": "independent", "insert_delete_substitute": "ins/del/sub", "cascade": "cascade"}
SERIES = {
    "truth": {"several": "best", "references": 1, "deviation": 0.0},
    "1 reference": {"several": "best", "references": 1, "deviation": 0.5},
    "best of 5": {"several": "best", "references": 5, "deviation": 0.5},
    "5 stitched": {"several": "stitched", "references": 5, "deviation": 0.5},
}


def draw(sequence_metrics: pd.DataFrame, sharpness: pd.DataFrame) -> Figure:
    """One panel a process, and the share of the fall in every setting."""
    figure, (a, b, c, d) = panels(2, 2, height=2.7)
    rows = sequence_metrics[sequence_metrics["metric"] == "rouge_l_sum"].sort_values("scale")
    rows = select(rows, vocabulary=1000, sentences=4)
    for ax, (letter, process) in zip((a, b, c), zip("ABC", PROCESSES, strict=True), strict=True):
        for kind, (name, options) in enumerate(SERIES.items()):
            of = select(rows, process=process, **options)
            curve(ax, of["scale"], of["score"], of["low"], of["high"], label=name, kind=kind)
        ax.axvspan(0.05, 0.1, color="#eeeeee", zorder=0)
        ax.set(
            title=f"{letter} {PROCESSES[process]}", xlabel="error rate per token", ylabel="ROUGE-L-Sum", ylim=(0, 1.03)
        )
    falls = sharpness[(sharpness["metric"] == "rouge_l_sum") & (sharpness["fall"] >= 0.1)]
    falls = falls.assign(process=[read_setting(text)["process"] for text in falls["setting"]])
    begin = 1
    for kind, (process, name) in enumerate(PROCESSES.items()):
        of = falls[falls["process"] == process].astype({"share": float, "share_low": float, "share_high": float})
        of = of.sort_values("share")
        x = np.arange(begin, begin + len(of))
        begin += len(of)
        curve(d, x, of["share"], of["share_low"], of["share_high"], label=name, kind=kind + 4, line=False, markersize=3)
    level(d, 0.1, "straight line", 0)
    level(d, 0.5, "half", 1)
    d.set(
        title="D share of the fall in .05 to .1",
        xlabel="settings, in order by process",
        ylabel="share",
        ylim=(-0.05, 1.0),
    )
    d.legend(loc="upper left", ncols=2)
    figure.legend(*a.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
