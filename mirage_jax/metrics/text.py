"""Metrics of token sequences. Leaf functions: arrays in, one number per sample out, no averaging and no jit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def _right(target: Array, target_length: Array, predicted: Array, predicted_length: Array) -> Array:
    """Boolean [..., target_width]: position l exists on both sides and holds the same token."""
    width = target.shape[-1]
    missing = max(width - predicted.shape[-1], 0)
    padded = jnp.pad(predicted, [(0, 0)] * (predicted.ndim - 1) + [(0, missing)])[..., :width]
    both = jnp.arange(width) < jnp.minimum(target_length, predicted_length)[..., None]
    return (target == padded) & both


def exact_match(
    target: Int[Array, "*batch target_width"],
    target_length: Int[Array, "*batch"],
    predicted: Int[Array, "*batch predicted_width"],
    predicted_length: Int[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """1 where the two sequences are equal in length and in every token, else 0; two empty sequences are equal.

    Under independent per-token success p its mean is p^L.

    References:
        Schaeffer, Miranda, Koyejo (2023), section 2 (Accuracy) and appendix A.
    """
    right = _right(target, target_length, predicted, predicted_length)
    return ((target_length == predicted_length) & (right.sum(-1) == target_length)).astype(jnp.float32)


def token_accuracy(
    target: Int[Array, "*batch target_width"],
    target_length: Int[Array, "*batch"],
    predicted: Int[Array, "*batch predicted_width"],
    predicted_length: Int[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """Share of target positions that hold the right token, (1/L) sum_l 1[t_l = t'_l], in [0, 1].

    The linear metric: its mean is the mean per-token success probability. Extra predicted tokens are not counted, a
    missing one is wrong. NaN for an empty target (0/0).
    """
    right = _right(target, target_length, predicted, predicted_length)
    return right.sum(-1) / target_length


def prefix_match(
    target: Int[Array, "*batch target_width"],
    target_length: Int[Array, "*batch"],
    predicted: Int[Array, "*batch predicted_width"],
    predicted_length: Int[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """Share of the target that the longest common prefix covers, in [0, 1]; NaN for an empty target (0/0).

    Under independent per-token success p its mean is (1/L) sum_{l=1..L} p^l.
    """
    right = _right(target, target_length, predicted, predicted_length)
    return jnp.cumprod(right, axis=-1).sum(-1) / target_length


def token_edit_distance(
    target: Int[Array, "*batch target_width"],
    target_length: Int[Array, "*batch"],
    predicted: Int[Array, "*batch predicted_width"],
    predicted_length: Int[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """Levenshtein distance in tokens: the fewest insertions, deletions and substitutions, in [0, max(L, L')].

        d[i, j] = min(d[i-1, j] + 1, d[i, j-1] + 1, d[i-1, j-1] + 1[t_i != t'_j]),  d[i, 0] = i,  d[0, j] = j

    One row at a time: the term d[i, j-1] + 1 chains along a row, and a chain of +1 steps is a running minimum of
    d[i, j] - j. The row of the target's own length is kept and read at the prediction's own length. L(1 - p), its law
    under independent substitutions in the paper, counts mismatched positions and is an upper bound: a minimum over
    alignments can be smaller.

    References:
        Wagner, Fischer (1974), "The String-to-String Correction Problem"; Schaeffer, Miranda, Koyejo (2023), section 2.
    """
    shape = target_length.shape
    columns = jnp.arange(predicted.shape[-1] + 1)
    first = jnp.broadcast_to(columns, (*shape, columns.size))

    def next_row(row: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        i, token = step
        substituted = row[..., :-1] + (token[..., None] != predicted)
        best = jnp.minimum(row[..., 1:] + 1, substituted)
        best = jnp.concatenate([jnp.broadcast_to(i + 1, (*shape, 1)), best], axis=-1)
        new = jax.lax.cummin(best - columns, axis=best.ndim - 1) + columns
        return jnp.where((i < target_length)[..., None], new, row), None

    steps = (jnp.arange(target.shape[-1]), jnp.moveaxis(target, -1, 0))
    row, _ = jax.lax.scan(next_row, first, steps)
    distance = jnp.take_along_axis(row, predicted_length[..., None].astype(row.dtype), axis=-1)[..., 0]
    return distance.astype(jnp.float32)


def token_edit_distance_normalised(
    target: Int[Array, "*batch target_width"],
    target_length: Int[Array, "*batch"],
    predicted: Int[Array, "*batch predicted_width"],
    predicted_length: Int[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """Levenshtein distance over the longer length, d / max(L, L'), in [0, 1], lower is better; 0 for two empty sequences.

    rapidfuzz's `Levenshtein.normalized_distance`; its `normalized_similarity` is one minus this.
    """
    longest = jnp.maximum(target_length, predicted_length)
    return token_edit_distance(target, target_length, predicted, predicted_length) / jnp.maximum(longest, 1)


def nll(
    target_log_prob: Float[Array, "*batch target_width"], target_length: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Negative log-likelihood of the target, -sum_l log p(t_l), in nats per sample; 0 for an empty target."""
    real = jnp.arange(target_log_prob.shape[-1]) < target_length[..., None]
    return -jnp.where(real, target_log_prob, 0.0).sum(-1)
