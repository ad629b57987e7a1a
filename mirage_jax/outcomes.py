"""What a model did on each sample, as arrays: the one form in which simulated, trained, API and logged models are scored.

Each outcome checks the values it holds (`check`), once, on concrete arrays, before anything is jitted.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.core
import numpy as np
from jaxtyping import Array, Bool, Float, Int

AnyArray = Array | np.ndarray


class Tokens(NamedTuple):
    """Token sequences: a target and what the model produced. Padding is a length, never a sentinel."""

    target: Int[AnyArray, "*batch target_width"]
    target_length: Int[AnyArray, "*batch"]
    predicted: Int[AnyArray, "*batch predicted_width"]
    predicted_length: Int[AnyArray, "*batch"]
    target_log_prob: Float[AnyArray, "*batch target_width"] | None = None  # nats, of each target token
    target_sentence: Int[AnyArray, "*batch target_width"] | None = None  # number of the sentence a token stands in
    predicted_sentence: Int[AnyArray, "*batch predicted_width"] | None = None
    target_bytes: Int[AnyArray, "*batch"] | None = None  # length of the target's text in bytes


class Choices(NamedTuple):
    """Multiple choice: the log-probability of each option and the score that choosing it earns."""

    log_prob: Float[AnyArray, "*batch choice"]  # nats; need not be normalised over the options
    real: Bool[AnyArray, "*batch choice"]  # False where an item has fewer options than the array is wide
    weight: Float[AnyArray, "*batch choice"]  # in [0, 1]; one-hot for a single right option
    length: Int[AnyArray, "*batch choice"] | None = None  # tokens or bytes of each option
    prior_log_prob: Float[AnyArray, "*batch choice"] | None = None  # of the option without the question


class Errors(NamedTuple):
    """Reconstruction: the squared error of each sample, summed over its dimensions."""

    squared: Float[AnyArray, "*batch"]


class Attempts(NamedTuple):
    """Repeated attempts at an item, or a test set: how many were made, how many were right."""

    n: Int[AnyArray, "*batch"]
    correct: Int[AnyArray, "*batch"]


Outcome = Tokens | Choices | Errors | Attempts


def check(outcome: Outcome, vocabulary: int | None = None) -> None:
    """Raise `ValueError`, saying what was expected and what came, where an outcome holds what no model can have done.

    Inside a caller's own `jit` the values are unknown, so only shapes and dtypes are checked there.
    """
    fields = {name: value for name, value in outcome._asdict().items() if value is not None}
    kind = type(outcome).__name__
    shapes = {name: np.shape(value) for name, value in fields.items()}
    narrow = {"target_length", "predicted_length", "target_bytes"} if kind == "Tokens" else set()
    wide = set(fields) - narrow if kind in ("Tokens", "Choices") else set()
    batches = {name: shape[:-1] if name in wide else shape for name, shape in shapes.items()}
    if any(name in wide and not shape for name, shape in shapes.items()):
        raise ValueError(f"{kind} needs a trailing token or choice axis, got shapes {shapes}")
    if len(set(batches.values())) > 1:
        raise ValueError(f"{kind} fields must share their batch shape, got {batches}")
    for side in ("target", "predicted") if kind == "Tokens" else ("",):
        widths = {name: shapes[name] for name in wide if name.startswith(side)}
        if len(set(widths.values())) > 1:
            raise ValueError(f"{kind} fields must have one shape, got {widths}")
    if 0 in next(iter(batches.values())):
        raise ValueError(f"{kind} holds no samples: shapes {shapes}")
    for name in ("target", "target_length", "predicted", "predicted_length", "length", "n", "correct"):
        if name in fields and not np.issubdtype(fields[name].dtype, np.integer):
            raise ValueError(f"{kind}.{name} must hold integers, got {fields[name].dtype}")
    if any(isinstance(value, jax.core.Tracer) for value in fields.values()):
        return
    _check_values(kind, {name: np.asarray(value) for name, value in fields.items()}, vocabulary)


def _check_values(kind: str, fields: Mapping[str, np.ndarray], vocabulary: int | None) -> None:
    def refuse(name: str, bad: np.ndarray | np.bool_, expected: str) -> None:
        bad = np.asarray(bad)
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(f"{kind}.{name} must be {expected}, got {fields[name][at]} at {list(at)}")

    for name, value in fields.items():
        if value.dtype.kind in "iu":
            refuse(name, value > np.iinfo(np.int32).max, "below 2^31")
    if kind == "Tokens":
        for side in ("target", "predicted"):
            ids, length = fields[side], fields[f"{side}_length"]
            refuse(f"{side}_length", (length < 0) | (length > ids.shape[-1]), f"in [0, {ids.shape[-1]}]")
            real = np.arange(ids.shape[-1]) < length[..., None]
            refuse(side, real & (ids < 0), ">= 0")
            if vocabulary is not None:
                refuse(side, real & (ids >= vocabulary), f"< vocabulary = {vocabulary}")
            if side == "target" and "target_log_prob" in fields:
                value = fields["target_log_prob"]
                refuse("target_log_prob", real & ~(value <= 0), "a log-probability <= 0")
    elif kind == "Choices":
        real, log_prob, weight = fields["real"], fields["log_prob"], fields["weight"]
        if not real.any(-1).all():
            raise ValueError(f"Choices.real: item {np.argwhere(~real.any(-1))[0].tolist()} has no option")
        refuse("log_prob", real & ~(log_prob <= 0), "a log-probability <= 0")
        if not (real & np.isfinite(log_prob)).any(-1).all():
            raise ValueError("Choices.log_prob: an item has no option of finite log-probability")
        refuse("weight", real & ~((weight >= 0) & (weight <= 1)), "in [0, 1]")
        if "length" in fields:
            refuse("length", real & (fields["length"] < 1), ">= 1")
        if "prior_log_prob" in fields:
            refuse("prior_log_prob", real & ~(fields["prior_log_prob"] <= 0), "a log-probability <= 0")
    elif kind == "Errors":
        refuse("squared", ~(fields["squared"] >= 0), ">= 0")
    else:
        refuse("n", fields["n"] < 1, ">= 1")
        refuse("correct", (fields["correct"] < 0) | (fields["correct"] > fields["n"]), "in [0, n]")
