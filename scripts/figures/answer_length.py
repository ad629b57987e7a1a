"""What "target string length" may mean, and what the choice does."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mirage_jax.plotting import curve, log_axis, panels
from mirage_jax.table import select

TABLES = ("answer_length", "answer_length_lengths", "answer_length_guesses")
DATA = "exact enumeration (A, B); simulated (C, D)"
TITLE = "Target string length: of the whole answer, or of its first or last digits"
CAPTION = (
    "A: shares of the answers of L digits, exact: no product of two-digit numbers has 1, 2 or 5. B: exact match of "
    "guesses at the first or last L digits of such products, exact: the commonest string of digits, and the commonest "
    "for an answer whose last digit is known; four digits are the whole answer. C: simulated 4-digit sums, first or "
    "last two digits scored, when losses grow with the operand digits that an answer digit depends on, counted from "
    "the last digit; a whole answer scores the same as with equal digits. Lines: laws; points: 1,024 answers each "
    "(65,536 in the full preset), 95% intervals. D: score at L over the score at one digit to the power L, by law, "
    "sums, models of about 1B parameters: 1 where digits are equally hard, whichever slice is scored. The profile of "
    "losses is ours; how hard digits are for real models is another matter."
)
NAMES = {"products_0_99": "products 0-99", "products_10_99": "products 10-99", "sums_1000_9999": "sums 1000-9999"}
GUESSES = {"constant": "commonest", "knows_last": "last digit known"}
SLICES = {
    "last digits": ("suffix", "last_easy"),
    "equal digits": ("suffix", "equal"),
    "first digits": ("prefix", "last_easy"),
}
SUMS, TOKENS, NEAR = "sums_1000_9999", 2, 1e9  # task of C and D, digits scored in C, parameters in D


def draw(rows: pd.DataFrame, lengths: pd.DataFrame, guesses: pd.DataFrame) -> Figure:
    """Panels A to D."""
    figure, (a, b, c, d) = panels(2, 2, height=3.1)
    digits = lengths[lengths["counted"] == "digits"]
    for kind, (task, name) in enumerate(NAMES.items()):
        share = digits[digits["task"] == task].set_index("length")["share"].reindex(range(1, 6), fill_value=0.0)
        curve(a, share.index, share, label=name, kind=kind)
    of = guesses[(guesses["task"] == "products_10_99")].sort_values("length")
    kind = 0
    for mode in ("suffix", "prefix"):
        for guess, name in GUESSES.items():
            at = of[(of["mode"] == mode) & (of["guess"] == guess)]
            curve(b, at["length"], at["score"], label=f"{mode}, {name}", kind=kind)
            kind += 1
    at = of[(of["mode"] == "prefix") & (of["guess"] == "uniform")]
    curve(b, at["length"], at["score"], label="random digits", kind=kind, marker=False)
    match = rows[(rows["task"] == SUMS) & (rows["metric"] == "exact_match")].sort_values("scale")
    used = TOKENS if TOKENS in set(match["length"].astype(int)) else int(match["length"].max())
    two = match[match["length"] == used]
    near = match["scale"].iloc[(np.log(match["scale"]) - np.log(NEAR)).abs().argmin()]
    shown = (
        ("suffix", "last_easy", "last digits"),
        ("suffix", "equal", "equal digits"),
        ("prefix", "last_easy", "first digits"),
    )
    for kind, (mode, profile, name) in enumerate(shown):
        own = select(two, mode=mode, profile=profile)
        law, drawn = own[own["source"] == "closed_form"], own[own["source"] == "simulated"]
        curve(c, law["scale"], law["score"], label=f"{name}, law", kind=kind, marker=False, named=False)
        curve(c, drawn["scale"], drawn["score"], drawn["low"], drawn["high"], label=name, kind=kind, line=False)
        own = select(match[(match["source"] == "closed_form") & (match["scale"] == near)], mode=mode, profile=profile)
        own = own.sort_values("length")
        x, y = own["length"].astype(float), own["score"]
        curve(d, x, y / y.iloc[0] ** (x / x.iloc[0]), label=name, kind=kind)
    log_axis(b, "y")
    log_axis(c)
    log_axis(d, "y", ticks=(0.1, 0.2, 0.5, 1, 2, 5, 10))
    for ax in (a, b, d):
        ax.set(xlabel="digits L", xticks=range(1, 6))
    a.set(ylabel="share of answers", title="A lengths of the answers")
    b.set(ylabel="exact match", title="B guesses at products 10-99")
    c.set(xlabel="parameters", ylabel="exact match", title=f"C first or last {used} digits of sums")
    d.set(ylabel="score / (score at one)^L", title="D the length law")
    for ax in (a, b, c, d):
        ax.legend()
    return figure
