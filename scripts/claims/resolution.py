"""The paper's other causes of apparent emergence, few test items and few models, and what "target length" means."""

import numpy as np
import pandas as pd

from mirage_jax.table import select
from scripts.claims.record import Claim, Found, Status
from scripts.claims.toy import DATA

FEASIBLE = 10_000  # items of a test that one could write
JUMP = 0.25  # share of the range above which a step looks like a jump
TOKENS = 5
SLICES = ("prefix", "suffix")
NOTHING = Found("not testable here", note="The table holds no such tests or families.")
SEEN = 0.01  # scores below it are left out of ratios


def _items(plans: pd.DataFrame) -> Found:
    rows = plans[plans["kind"] == "seen"].sort_values("items")
    if rows.empty:
        return NOTHING
    within, most = rows["items"] <= FEASIBLE, rows.iloc[-1]
    gap = float((rows["share"] - rows["law"]).abs().max())
    note = (
        f"The largest need is {most['items']:,} items (L = {most['length']}, {most['scale']:.0e} parameters). Simulated tests "
        f"of the planned sizes show the ability in {rows['share'].min():.1%} or more, at most {gap:.1%} off the law."
    )
    status: Status = "holds" if within.all() else "mixed" if within.any() else "fails"
    return Found(status, float(within.mean()), n=len(rows), note=note)


def _family(tests: pd.DataFrame, length: int) -> pd.DataFrame:
    """Rows of one length and the 16 models that are looked at closely, by test size."""
    return tests[(tests["models"] == 16) & (tests["length"] == length)].sort_values("n")


def _onset(tests: pd.DataFrame) -> Found:
    rows = _family(tests, TOKENS)
    if rows.empty:
        return NOTHING
    few, many = rows["onset_q50"].iloc[[0, -1]]
    if not few / many > 0:
        return Found("not testable here", note="Half of the tests of some size see no model at all.")
    decades = float(np.log10(few / many))
    least, most = rows["n"].iloc[[0, -1]]
    note = f"From {few:.2g} parameters on {least:,} items to {many:.2g} on {most:,}."
    return Found("holds" if decades >= 1 else "fails", decades, n=int(rows["tests"].iloc[0]), note=note)


def _jumps(tests: pd.DataFrame) -> Found:
    rows, one = _family(tests, TOKENS), _family(tests, 1)
    if rows.empty:
        return NOTHING
    few, many = rows["jumps"].iloc[[0, -1]]
    least, most = rows["n"].iloc[[0, -1]]
    note = f"{least:,} items; {many:.1%} on {most:,}. The law's own largest step is {rows['step_law'].iloc[0]:.2f}."
    if len(one):
        note += f" One token, a linear metric, jumps in {one['jumps'].iloc[0]:.0%} on {least:,} items."
    ends = (float(rows[end].iloc[0]) for end in ("jumps_low", "jumps_high"))
    status: Status = "holds" if few > 0.5 and many < 0.05 else "fails"
    return Found(status, float(few), *ends, n=int(rows["tests"].iloc[0]), note=note)


def _few_large(families: pd.DataFrame) -> Found:
    few = families[families["design"] == "few_large"].sort_values("number")
    rows, one = few[few["length"] == TOKENS], few[few["length"] == 1]
    if rows.empty:
        return NOTHING
    gentle = rows[rows["step"] < JUMP]
    fewest = int(gentle["number"].min()) if len(gentle) else None
    note = f"With one large model; {f'{fewest} bring it below {JUMP:.0%}' if fewest else 'no number brings it down'}."
    note += f" That step spans {rows['step_of_line'].iloc[0]:.2f} of the range of log N"
    note += (
        f", and one token, a linear metric, makes {one['step'].iloc[0]:.2f} of its range there." if len(one) else "."
    )
    own = families[(families["design"] == "published") & (families["length"].isin([1, TOKENS]))].sort_values("length")
    if len(own) == 2:
        first, five = own["last_step"]
        span = own["last_step_of_line"].iloc[0]
        note += f" At the paper's four sizes the last step, {span:.0%} of log N, makes {five:.0%} ({first:.0%} for one token)."
    status: Status = "holds" if rows["step"].iloc[0] > 0.75 and fewest is not None and fewest <= 8 else "fails"
    return Found(status, float(rows["step"].iloc[0]), n=int(rows["models"].iloc[0]), note=note)


def _score_counts(families: pd.DataFrame) -> Found:
    rows = families[(families["design"] == "even") & (families["length"] == TOKENS)].sort_values("number")
    if rows.empty:
        return NOTHING
    few, many = rows["emergence"].iloc[[0, -1]]
    least, most = rows["number"].iloc[[0, -1]]
    ratio, note = float(many / few), f"{few:.1f} over {least} models, {many:.1f} over {most}."
    return Found("holds" if 0.5 <= ratio <= 2 else "fails", ratio, n=len(rows), note=note)


def _lengths(lengths: pd.DataFrame) -> Found:
    wanted = set(range(1, 6))
    there = {key: wanted & set(of["length"]) for key, of in lengths.groupby(["task", "counted"])}
    products, small, sums = (there[task, "digits"] for task in ("products_10_99", "products_0_99", "sums_1000_9999"))
    note = (
        f"Factors from 0 to 99: {len(small)} of 5; sums of 4-digit numbers: {len(sums)}; with separators or an end token "
        f"counted, at most {max(map(len, there.values()))} for any task. First or last digits: 1 to {max(products)}."
    )
    found = len(products) / len(wanted)
    return Found("holds" if found == 1 else "fails", found, n=len(wanted), note=note)


def _laws(rows: pd.DataFrame, mode: str, profile: str) -> pd.Series:
    """Expected exact match of one kind of slice, by task, scale and length."""
    law = rows[(rows["source"] == "closed_form") & (rows["metric"] == "exact_match")]
    return select(law, mode=mode, profile=profile).set_index(["task", "scale", "length"])["score"].sort_index()


def _slices(rows: pd.DataFrame) -> Found:
    equal, harder = (
        (_laws(rows, "suffix", profile) - _laws(rows, "prefix", profile)).abs() for profile in ("equal", "last_easy")
    )
    at = harder.reset_index().sort_values("score").iloc[-1]
    note = (
        f"Largest for {at['task'].replace('_', ' ')}, L = {at['length']}, {at['scale']:.1e} parameters, where digits are the "
        f"harder the more operand digits they depend on; {equal.max():.1g} where all are equally hard."
    )
    status: Status = "holds" if max(harder.max(), equal.max()) < 0.05 else "mixed" if equal.max() < 0.05 else "fails"
    return Found(status, float(harder.max()), n=len(harder), note=note)


def _powers(rows: pd.DataFrame) -> Found:
    def factors(mode: str, profile: str) -> np.ndarray:
        law = _laws(rows, mode, profile).unstack("length")
        score, power = law.to_numpy(), law[[1]].to_numpy() ** law.columns.to_numpy(float)
        return np.exp(np.abs(np.log(score / power)))[score >= SEEN]

    equal = max(float(factors(mode, "equal").max()) for mode in SLICES)
    harder = {mode: factors(mode, "last_easy") for mode in SLICES}
    worst = max(float(of.max()) for of in harder.values())
    note = f"{', '.join(f'{mode} {of.max():.2f}' for mode, of in harder.items())}; digits equally hard {equal:.2f}."
    status: Status = "holds" if max(worst, equal) <= 1.25 else "mixed" if equal <= 1.25 else "fails"
    return Found(status, worst, n=sum(of.size for of in harder.values()), note=note)


def _guesses(guesses: pd.DataFrame) -> Found:
    found = guesses.pivot_table(index=["task", "mode", "length"], columns="guess", values="score").reset_index()
    found["ratio"] = found["constant"] / found["uniform"]
    at = found.sort_values("ratio").iloc[-1]
    note = (
        f"Largest for {at['task'].replace('_', ' ')}, {at['mode'].replace('_', ' ')}, L = {at['length']}; above 2 in "
        f"{(found['ratio'] > 2).sum()} slices."
    )
    return Found("holds" if at["ratio"] <= 2 else "fails", float(at["ratio"]), n=len(found), note=note)


CLAIMS = (
    Claim(
        "resolution_items",
        "Larger tests would have shown the ability of the small models.",
        "section 2, second cause; section 3, second prediction",
        f"Share of (model, length) cells that need at most {FEASIBLE:,} items for one right answer with 95% probability "
        "(16 models, L = 1, 5, 10); holds if all do, mixed if some.",
        ("resolution_plans",), _items, DATA, "resolution",
    ),
    Claim(
        "resolution_onset",
        "The scale at which an ability seems to begin is set by the size of the test.",
        "section 2, second cause",
        "Decades between the median first model with any right answer on the smallest and on the largest test (16 models, "
        "L = 5); holds from 1 decade.",
        ("resolution_tests",), _onset, DATA, "resolution",
    ),
    Claim(
        "resolution_jumps",
        "On small tests a smooth law looks as if it jumped.",
        "section 2, second cause",
        "Share of simulated tests of the smallest size in which one step makes more than a quarter of the range (16 models, "
        "L = 5); holds if above one half there and below 5% on the largest test.",
        ("resolution_tests",), _jumps, DATA, "resolution",
    ),
    Claim(
        "scales_few_large",
        "With few large models a smooth law looks as if it jumped.",
        "section 2, third cause",
        "Largest step as a share of the range, nine models up to 1B parameters and one of 1T, exact scores, L = 5; holds if "
        "above .75 and below .25 with 8 large models or fewer.",
        ("resolution_families",), _few_large, "closed forms", "resolution_scales",
    ),
    Claim(
        "scales_emergence_score",
        "The emergence score of one law does not depend on how many models stand on it.",
        "section 4, equation 1, where the scores of many families are pooled",
        "Score over the densest family as a multiple of that over the sparsest, same range and law, exact scores, L = 5; "
        "holds from 1/2 to 2.",
        ("resolution_families",), _score_counts, "closed forms", "resolution_scales", True,
    ),
    Claim(
        "answer_length_sweep",
        "Products of two two-digit numbers have target lengths 1 to 5.",
        "section 3, figure 3",
        "Share of the lengths 1 to 5 that are numbers of digits of such products, by enumeration; holds if all are.",
        ("answer_length_lengths",), _lengths, "exact enumeration", "answer_length", True,
    ),
    Claim(
        "answer_length_slices",
        "It makes no difference whether the first or the last L tokens of an answer are scored.",
        "section 3, where the slice is not told",
        "Largest gap of expected exact match between first and last L digits, over tasks, lengths and models; holds below "
        ".05, mixed if only for digits that are equally hard.",
        ("answer_length",), _slices, "closed forms", "answer_length", True,
    ),
    Claim(
        "answer_length_powers",
        "If digits err independently, accuracy at L tokens is accuracy at one token to the power L.",
        "section 3, third prediction",
        "Largest factor between the two, expected scores of .01 and more, first or last digits, over tasks, lengths, models; "
        "holds up to 1.25, mixed if only for digits that are equally hard.",
        ("answer_length",), _powers, "closed forms", "answer_length", True,
    ),
    Claim(
        "answer_length_chance",
        "The score of guessing at L digits is 10^-L, that of a random string.",
        "section 3, second prediction",
        "Largest ratio of what the commonest string earns to 10^-L, over tasks, slices and lengths, by enumeration; holds up "
        "to 2.",
        ("answer_length_guesses",), _guesses, "exact enumeration", "answer_length", True,
    ),
)  # fmt: skip
