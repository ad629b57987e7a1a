"""Claims of emergence induced in autoencoders (section 5, figure 7 of the paper), on natural images and on digits."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from scripts.claims.record import Claim, Found, Status

FLAT = 0.05  # Reconstruction_c below which a width looks unable
WIDTHS = 3  # that must look unable before the rise
NEAR = 1.5  # factor by which an explanation may be off
NATURAL, DIGITS = "CIFAR images, named in the figure", "digits bundled with scikit-learn"


def _of(frame: pd.DataFrame, family: str) -> pd.DataFrame:
    """Rows of the autoencoders or of PCA."""
    return frame[frame["family"].str.startswith(family)]


def _jump(curve: pd.DataFrame, transitions: pd.DataFrame, family: str) -> Found:
    """Whether the squared error falls at every step while Reconstruction_c is flat, then rises; the rule for c was fixed."""
    trained = _of(transitions, "autoencoder")
    fixed = trained[trained["from"].str.startswith("q90")]
    if fixed.empty:
        return Found("not testable here", note="No network was trained to its end.")
    c = fixed["c"].iloc[0]
    of, means = _of(transitions, family), _of(curve, family).sort_values("h")
    row, squared, rates = of[of["c"] == c].iloc[0], means[means["c"].isna()], means[means["c"] == c]
    falls = bool((np.diff(squared["mean"]) < 0).all())
    unable = int((rates["mean"] < FLAT).cummin().sum())
    sharper, flat = row["ratio_low"] > 1, unable >= WIDTHS and rates["mean"].iloc[-1] > 0.5
    status: Status = "holds" if falls and sharper and flat else "mixed" if sharper else "fails"
    whole = of[of["c"].notna() & (of["first"] < FLAT) & (of["last"] > 0.5)]
    step = np.log10(rates["h"].iloc[-1] / rates["h"].iloc[-2])
    start = f"it is below .05 up to h = {rates['h'].iloc[unable - 1]}" if unable else "it is nowhere below .05"
    note = (
        f"At c = {c:g} {start}, {rates['mean'].iloc[-2]:.2f} at the last width but one and {rates['mean'].iloc[-1]:.2f} at the "
        f"last. The change takes {row['decades']:.2f} decades of h (within the last step it would be {0.8 * step:.2f}), that "
        f"of the squared error {of['decades'].iloc[0]:.2f}; it {'falls' if falls else 'does not fall'} at every step. Over the "
        f"{len(whole)} of {len(of) - 1} c whose curve rises from below .05 to above .5 the ratio runs from "
        f"{whole['ratio'].min():.1f} to {whole['ratio'].max():.1f}."
    )
    return Found(status, *(float(row[end]) for end in ("ratio", "ratio_low", "ratio_high")), n=len(rates), note=note)


def _networks(curve: pd.DataFrame, transitions: pd.DataFrame) -> Found:
    return _jump(curve, transitions, "autoencoder")


def _pca(curve: pd.DataFrame, transitions: pd.DataFrame, members: pd.DataFrame) -> Found:
    found = _jump(curve, transitions, "pca")
    if found.value is None:
        return found
    least = _of(members, "pca").groupby("h")["train_squared_error"].min()
    each = _of(members, "autoencoder")
    each = each[each["seed"].notna() & each["train_squared_error"].notna()]
    over = each["train_squared_error"] / each["h"].map(least)
    rates = curve[curve["c"].notna()].assign(trained=curve["family"].str.startswith("autoencoder"))
    both = rates.pivot(index=["c", "h"], columns="trained", values="mean").dropna()
    ahead = float((both[False] - both[True]).max())
    note = (
        f"{found.note} On the training images {int((over < 1).sum())} of {len(over)} networks have a smaller error than PCA "
        f"(none can), and theirs is {over.min():.2f} to {over.max():.2f} times PCA's; at equal h and c PCA's share is up to "
        f"{ahead:.2f} above theirs."
    )
    return found._replace(note=note)


def _identity(identity: pd.DataFrame, transitions: pd.DataFrame) -> Found:
    equal = float((identity["scored"] == identity["below"]).mean())
    told = transitions[transitions["explained"].notna() & transitions["seen"].notna()]
    ratio = told["explained"] / told["seen"]
    near = int(((ratio < NEAR) & (ratio > 1 / NEAR)).sum())
    note = (
        f"Spread of the log error over its drift gives the decades from .1 to .9 within a factor of {NEAR} in {near} of "
        f"{len(told)} curves: {ratio.min():.2f} to {ratio.max():.2f} times what is seen, which shows no jump within a step."
    )
    return Found("holds" if equal == 1 else "fails", equal, n=len(identity), note=note)


def _choice(induced: pd.DataFrame) -> Found:
    row = _of(induced, "autoencoder").iloc[0]
    ratio = float(row["smoothest_decades"] / row["sharpest_decades"])
    bound = ", a bound set by the step between sizes" if row["sharpest_inside"] == 0 else ""
    note = (
        f"{int(row['tried'])} c were tried, {int(row['with_width'])} have a width: sharpest c = {row['sharpest']:g} "
        f"({row['sharpest_decades']:.2f} decades of h{bound}), smoothest c = {row['smoothest']:g} "
        f"({row['smoothest_decades']:.2f}); {row['by_chance']:.2g} as sharp expected by chance."
    )
    return Found("holds" if ratio > 2 else "fails", ratio, n=int(row["tried"]), note=note)


def _claims(study: str, data: str, ending: str, images: str) -> Iterator[Claim]:
    """The claims on one study's tables."""
    curve, transitions = f"{study}_curve", f"{study}_transitions"
    test = (
        "Decades of h between 10% and 90% of the change, squared error over Reconstruction_c, at the c below which 90% of the "
        "largest network's errors lie; 95% bootstrap over images and seeds. Holds if that is above 1, the squared error falls "
        "at every step, and Reconstruction_c is below .05 at the three smallest widths and above .5 at the largest; mixed if "
        "only sharper. c and limits are ours."
    )
    yield Claim(
        f"autoencoders{ending}",
        f"Shallow autoencoders seem to learn to reconstruct {images} at a certain size, if a hard threshold scores them, while "
        "their mean squared error falls smoothly.",
        "section 5, figure 7", test, (curve, transitions), _networks, data, study,
    )  # fmt: skip
    yield Claim(
        f"autoencoders{ending}_pca",
        f"PCA of equal rank jumps as well on {images}: neither training nor nonlinearity makes this emergence.",
        "section 5, figure 7, with our baseline", f"The same test, of PCA, with the same c. {test.partition('. ')[0]}.",
        (curve, transitions, f"{study}_members"), _pca, data, study, True,
    )  # fmt: skip
    yield Claim(
        f"autoencoders{ending}_identity",
        f"Reconstruction_c at h is the distribution of the errors at h, F_h(c), on {images}: how sharply it rises is how fast "
        "that distribution moves with h against its own spread.",
        "section 5, equation 2",
        "Share of (member, c) in which the images scored 1 are exactly those whose error stands before c once sorted; holds if "
        "all.",
        (f"{study}_identity", transitions), _identity, data, study, True,
    )  # fmt: skip
    yield Claim(
        f"autoencoders{ending}_choice",
        f"The choice of c alone makes the same outputs on {images} improve suddenly or gradually.",
        "section 5",
        "Width of the smoothest curve over that of the sharpest, of all c tried (mirage_jax.induce); holds above 2.",
        (f"{study}_induced",), _choice, data, study, True,
    )  # fmt: skip


CLAIMS = (
    *_claims("cifar_autoencoder", NATURAL, "", "natural images"),
    *_claims("digits_autoencoder", DIGITS, "_digits", "digits"),
)
