"""Claims of the arithmetic experiment (section 3 of the paper), on stored InstructGPT answers."""

import pandas as pd

from scripts.claims.record import Claim, Found, Status, share

DATA = "InstructGPT completions, mukobi/DATA-3-Multiplication-Tables"


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
    return share(above, len(rows), "holds" if above == len(rows) else "mixed" if above else "fails")


def _arithmetic_above_digits(instructgpt: pd.DataFrame) -> Found:
    rows = _exact(instructgpt, "all")
    above = int((rows["low"] > rows["chance"]).sum())
    return share(above, len(rows), "holds" if above == len(rows) else "mixed" if above else "fails")


def _arithmetic_small_tests(instructgpt: pd.DataFrame) -> Found:
    few, every = _exact(instructgpt, "20"), _exact(instructgpt, "all")
    hidden = int(((few["score"] == 0) & (every["score"] > 0)).sum())
    return share(hidden, len(few), "holds" if hidden else "fails")


def _arithmetic_geometric(tests: pd.DataFrame) -> Found:
    rows = tests[(tests["test"] == "independence_ratio") & tests["low"].notna()]
    apart = int(((rows["low"] > 1) | (rows["high"] < 1)).sum())
    status: Status = "holds" if apart == 0 else "fails" if 2 * apart > len(rows) else "mixed"
    return share(apart, len(rows), status, f"The largest of these ratios is {rows['value'].max():.1f}.")


def _arithmetic_linear(instructgpt: pd.DataFrame, tests: pd.DataFrame) -> Found:
    rows = instructgpt[instructgpt["length"].notna() & (instructgpt["metric"] == "token_edit_distance")]
    rows = rows[rows["setting"] == "items=all;shots=3"]
    slope = tests[tests["test"] == "edit_slope"].set_index("model")["value"]
    off = (rows["score"] - rows["model"].map(slope) * rows["length"].astype(float)).abs()
    off = off.groupby(rows["model"]).max() / rows.groupby("model")["score"].max()
    status: Status = "holds" if off.max() < 0.1 else "mixed" if off.min() < 0.1 else "fails"
    return Found(status, float(off.max()), n=len(rows), note=f"By model: {', '.join(f'{v:.2f}' for v in sorted(off))}.")


CLAIMS = (
    Claim(
        "arithmetic_metric_swap",
        "Replacing accuracy by edit distance on the same answers turns a sharp change with scale into a smooth one.",
        "section 3, first prediction; figure 3",
        "Decades of scale between 10% and 90% of the change, edit distance over accuracy, paired bootstrap over items; holds "
        "if above 1 and no single step makes half of the change, mixed if only wider.",
        ("instructgpt", "instructgpt_tests"), _arithmetic_swap, DATA, "arithmetic",
    ),
    Claim(
        "arithmetic_above_chance",
        "Given enough test items, every model is above chance at every answer length.",
        "section 3, second prediction; figure 4",
        "Share of (model, length) cells whose 95% lower end is above 10^-L, the chance of a random string of digits.",
        ("instructgpt",), _arithmetic_above_chance, DATA, "arithmetic_resolution",
    ),
    Claim(
        "arithmetic_above_digits",
        "The same holds against a stricter guess, which knows the commonest digit of every position.",
        "section 3, second prediction, with our chance level",
        "Share of (model, length) cells whose 95% lower end is above the product over positions of the commonest digit's "
        "share; at one digit that is .90, since most such products are 0.",
        ("instructgpt",), _arithmetic_above_digits, DATA, "arithmetic_resolution", True,
    ),
    Claim(
        "arithmetic_small_tests",
        "On small tests, abilities that larger tests reveal look absent.",
        "section 3, figure 4",
        "Share of (model, length) cells that score 0 on 20 items and above 0 on all; holds if any does.",
        ("instructgpt",), _arithmetic_small_tests, DATA, "arithmetic_resolution",
    ),
    Claim(
        "arithmetic_geometric",
        "Accuracy falls geometrically with answer length, as if digits were independent.",
        "section 3, third prediction",
        "Share of (model, length) cells whose independence ratio, the rate of all digits right over the product of each "
        "digit's rate, has a 95% interval without 1; fails if most do.",
        ("instructgpt_tests",), _arithmetic_geometric, DATA, "arithmetic_length",
    ),
    Claim(
        "arithmetic_linear",
        "Edit distance grows about linearly with answer length.",
        "section 3, third prediction",
        "Largest distance from a line through the origin as a share of the model's largest score, worst model; holds below "
        ".1 for every model, mixed if for some.",
        ("instructgpt", "instructgpt_tests"), _arithmetic_linear, DATA, "arithmetic_length",
    ),
    Claim(
        "addition",
        "Four-digit addition shows the same two pictures as multiplication.",
        "section 3, figure 3",
        "Needs stored completions of 4-digit additions by a family of models.",
    ),
)  # fmt: skip
