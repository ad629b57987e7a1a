"""What a verdict has to know of a metric: from METRICS, or as a user writes it."""

import math
import re
from typing import Any, Literal, NamedTuple

from mirage_jax import table
from mirage_jax.errors import InputError
from mirage_jax.metrics.facts import METRICS

# 0 or 1 for each item, so that a mean of them is a count; and right only where every token or item is, so that the law of
# the link from a rate per token is known
COUNTED = ("exact_match", "exact_match_caseless", "numeric_match", "multiple_choice_grade", "reconstruction")
EVERY = ("exact_match", "exact_match_caseless", "subset_accuracy")
FORM = "linear|nonlinear|discontinuous,higher|lower,LO..HI"


class Facts(NamedTuple):
    """What the rule needs to know of a metric."""

    linear: bool
    continuous: bool
    direction: Literal["higher", "lower"]
    low: float
    high: float
    counted: bool  # a share of successes: judged by its counts
    every: bool  # right only where every token is; assumed of a discontinuous metric without a key
    outcome: Any = None  # what it reads, None if unknown: pairs with anything
    options: tuple[str, ...] = ()

    @classmethod
    def of(cls, metric: str, setting: object) -> "Facts | None":
        """The facts of a key of METRICS under a setting's options; None of another."""
        if metric not in METRICS:
            return None
        known = METRICS[metric]
        given = {name: _option(text) for name, text in table.read_setting(setting).items() if name in known.options}
        continuous = bool(known.fact("continuous", **given))
        return cls(
            bool(known.fact("linear", **given)), continuous, known.direction, float(known.bounds[0]), float(known.bounds[1]),
            metric in COUNTED, metric in EVERY, known.outcome, tuple(known.options),
        )  # fmt: skip

    @classmethod
    def read(cls, metric: str, text: str) -> "Facts":
        """Facts as a user writes them: linear|nonlinear|discontinuous,higher|lower,LO..HI."""
        number = r"-?(?:\d+\.?\d*|\.\d+|inf)"
        found = re.fullmatch(rf"(linear|nonlinear|discontinuous),(higher|lower),({number})\.\.({number})", text)
        if (
            not found
            or not float(found[3]) < float(found[4])
            or not (math.isfinite(float(found[3])) or math.isfinite(float(found[4])))
        ):
            raise InputError(f"metric {metric}: expected {FORM}, one bound finite, got {text!r}")
        kind, direction, low, high = found[1], found[2], float(found[3]), float(found[4])
        counted = kind == "discontinuous" and math.isfinite(low) and math.isfinite(high)
        known = METRICS.get(metric)
        return cls(
            kind == "linear", kind != "discontinuous", "higher" if direction == "higher" else "lower", low, high, counted,
            metric in EVERY if known else counted, known.outcome if known else None, tuple(known.options) if known else (),
        )  # fmt: skip


def _option(text: str) -> Any:
    """An option's value as `evaluate` takes it, from the text in `setting`."""
    if text in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[text]
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text
