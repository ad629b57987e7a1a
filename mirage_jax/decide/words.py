"""What a verdict says in plain English, and what would change it."""

import math
from collections.abc import Mapping
from typing import Any

from mirage_jax.decide.rule import BESIDE, DETECTABLE, SCALES, SCALES_JUMP
from mirage_jax.decide.shapes import FLOOR

CERTIFY = 225  # items times mu (1 - mu) / J^2 from which a jump J is called narrow 95 times in 100: J / se of 15

FLIPS = " Counting the missing items all right, or all wrong, would change this label."
SAYS = {
    "unknown n": "How many items stand behind the scores is unknown: noise cannot be told from change.",
    "few scales": "{scales} scales are too few: below {least} no shape can be told from another.",
    "seeds": "At {mode_scale} the seeds fall into two groups, {mode_gap:.2f} apart: some runs have the ability and some lack "
    "it. The mean over seeds hides that.",
    "flat": "{metric} does not change over {scales} scales, and a change of {detectable:.2f} of its range would have "
    "shown.",
    "flat unresolved": "{metric} shows no change beyond noise ({noise}); a change below {visible:.2f} of its range would "
    "not show.",
    "not monotone": "{of} {falls} by more than noise (a fall of at least {drop:.2f} of its range): no threshold and no "
    "smooth rise.",
    "jump on few scales": "{of} jumps by {jump:.2f} of its range near {at}, but on {scales} scales, {gap} apart there, a "
    "smooth rise looks the same.",
    "jump at the edge": "{of} may jump near {at}, where fewer than {asked} scales stand beside it: too few to tell a jump from "
    "a rise.",
    "jump": "{of} itself jumps by {jump:.2f} of its range near {at}, within {width} (95%): the jump is not the metric's.",
    "jump of one metric": "{metric} jumps by {jump:.2f} of its range near {at}, within {width} (95%); without a linear metric "
    "of the same outputs nobody can say whether the metric made it.",
    "step not excluded, few scales": "{of} goes with a step as well as with a smooth rise on {scales} scales.",
    "step not excluded": "{of} goes with a step as well as with a smooth rise: the noise ({noise}) hides the difference.",
    "smooth alone": "{metric} {rises} smoothly, over {wide}.",
    "link refused": "{metric} changes in a way that {pair} does not explain (p {p_value}): rates per token alone, however "
    "the tokens hang together, do not give this curve.",
    "link of choices refused": "No single relation takes {pair} to {metric} (p {p_value}); items that differ in "
    "difficulty do that too, so nothing follows.",
    "never off the ground": "{metric} stays near {floor} at every scale: too few successes to say more.",
    "no plateau": "{metric} {rises} smoothly with {pair}, from the smaller scales on.",
    "shared plateau": "{pair} itself is flat over the {plateau_linear} smallest scales: the plateau is not the metric's alone.",
    "plateau unresolved": "{pair} may be flat over the {plateau_linear} smallest scales; its noise leaves room for a rise.",
    "metric": "{metric} looks flat over {plateau} scales and then takes off, while {pair} {pair_rises} all along (by "
    "{progress:.2f} of its range on that plateau) and predicts the whole curve (p {p_value}): the jump is the metric's.",
    "progress unresolved": "{pair} may predict {metric}, but that is not clear: {informative} scales hold successes and "
    "failures enough to tell ({tell} are asked), and its progress on the plateau is {progress:.3f} with a standard error of "
    "{progress_se:.3f}.",
    "companion smooth": "{pair} jumps near {at}, but {companion} of the same outputs does not: the jump is of one metric.",
}  # fmt: skip


CHANGES = {  # where no number of items or scales is asked for
    "unknown n": "Give the number of items (n, or --n TASK=...).",
    "seeds": "Nothing at these scales; judge the groups apart.",
    "flat": "More items, for changes smaller than that.",
    "not monotone": "More models at the scales where it falls, to show whether it is their scatter.",
    "link refused": "Outputs under which the tokens' dependence can be measured, item by item.",
    "link of choices refused": "The margin of every item, in place of a mean probability.",
    "never off the ground": "Larger models, or an easier task.",
    "shared plateau": "A continuous score on a log scale (nll) of the same outputs that rises on the plateau.",
    "metric": "A jump of the linear metric itself between scales not measured yet, or counts that leave the predicted curve.",
}


def sentence(step: str, facts: Mapping[str, Any]) -> str:
    """One sentence or two on why the label was given."""
    return SAYS[step].format(**facts)


def change(step: str, e: Mapping[str, Any]) -> tuple[str, float, float]:
    """What would change the verdict: in words, and the items a scale and the scales that it asks for (NaN: neither).

    Items: so many that the standard error falls to what the step asks, by se ~ 1 / sqrt(items). Beyond items, scatter
    between models needs repeats: no number of items removes it.
    """
    n, nan = e["n"], math.nan
    if step == "few scales":
        return f"At least {SCALES} scales, {SCALES_JUMP} to decide on a jump.", nan, float(SCALES_JUMP)
    if step in ("jump on few scales", "step not excluded, few scales"):
        words = (
            f"At least {SCALES_JUMP} scales, more of them near {e['at']}: no items tell a threshold from a steep rise."
        )
        return words, nan, float(SCALES_JUMP)
    if step == "jump at the edge":
        more = BESIDE - e["beside"]
        return f"{more} more scale{'s' * (more > 1)} beyond {e['at']}.", nan, float(e["scales"] + more)
    if step == "flat unresolved":
        wanted = DETECTABLE / (2 * math.sqrt(2))
        return _items(n, e["median_se"], wanted, e["scatter"])
    if step == "step not excluded":
        rise = max(e["jump"], 0.05)
        items = CERTIFY * max(e["level"] * (1 - e["level"]), 0.01) / rise**2
        if e["scatter"] > 0.05:
            words = f"Repeats of each scale: models scatter by {e['scatter']:.2f} in logit, more than items can mend."
            return words, nan, nan
        if items <= 1.5 * n:
            return f"Scales closer together near {e['at']}: more items would help little.", nan, nan
        return (
            f"About {_count(items)} items a scale, or scales closer together near {e['at']}.",
            float(math.ceil(items)),
            nan,
        )
    if step in ("plateau unresolved", "progress unresolved"):
        return f"About {_count(4 * n)} items a scale would halve the noise.", float(4 * n), nan
    if step in ("jump", "jump of one metric", "companion smooth"):
        beside = "" if step == "jump" else " A linear metric of the same outputs would say whose jump it is."
        return f"More scales near {e['at']} that fill the gap smoothly.{beside}", nan, nan
    return CHANGES.get(step, "A jump between two scales that are not measured yet."), nan, nan


def _items(n: float, se: float, wanted: float, scatter: float) -> tuple[str, float, float]:
    if not n > 0:
        return "More items.", math.nan, math.nan
    items = math.ceil(n * (se**2 - FLOOR**2) / (wanted**2 - FLOOR**2))  # the floor is no matter of items
    words = f"About {_count(items)} items a scale would show a change of {DETECTABLE:g} of the range."
    if scatter > 0.05:
        words += f" Models that scatter by {scatter:.2f} in logit need repeats too."
    return words, float(items), math.nan


def _count(items: float) -> str:
    """Items to two digits, which is as well as such a number is known."""
    digits = max(0, int(math.floor(math.log10(max(items, 1)))) - 1)
    return f"{math.ceil(items / 10**digits) * 10**digits:,}"


def size(value: float, kind: object) -> str:
    """A scale as people write it."""
    if value != value:
        return "an unknown scale"
    if kind == "loss":
        return f"a loss of {value:.3g}"
    if kind == "step":
        return f"step {value:,.0f}"
    if kind == "flops":
        return f"{value:.2g} FLOPs"
    if kind == "error_rate":
        return f"an error rate of {value:.2g}"
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g}{unit} {kind or ''}".strip()
    return f"{value:.3g} {kind or ''}".strip()
