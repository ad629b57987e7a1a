"""Metrics of repeated attempts and of whole test sets, unbiased in the number of attempts."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def pass_at_k(n: Int[Array, "*batch"], correct: Int[Array, "*batch"], k: int) -> Float[Array, "*batch"]:
    """Chance that at least one of k attempts succeeds, 1 - C(n - c, k) / C(n, k), unbiased; NaN where n < k.

    Computed as 1 - prod_{j<k} (1 - c / (n - j)) through log1p and expm1, so small rates keep their digits.

    References:
        Chen et al. (2021), "Evaluating Large Language Models Trained on Code", equation 1.
    """
    if k < 1:
        raise ValueError(f"pass_at_k needs k >= 1, got {k}")
    left = n[..., None] - jnp.arange(k)
    failed = jnp.log1p(-jnp.minimum(correct[..., None] / jnp.maximum(left, 1), 1.0)).sum(-1)
    return jnp.where(n >= k, -jnp.expm1(failed), jnp.nan)


def subset_accuracy(n: Int[Array, "*batch"], correct: Int[Array, "*batch"], K: int) -> Float[Array, "*batch"]:
    """Chance that K different test items drawn at random are all right, C(c, K) / C(n, K), unbiased; NaN where n < K.

    Its expectation for independent items of accuracy p is p^K exactly; the plug-in (c/n)^K is biased upwards.

    References:
        Schaeffer, Miranda, Koyejo (2023), appendix B.1 (the metric); unbiased by the hypergeometric identity.
    """
    if K < 1:
        raise ValueError(f"subset_accuracy needs K >= 1, got {K}")
    j = jnp.arange(K)
    ratio = jnp.maximum(correct[..., None] - j, 0) / jnp.maximum(n[..., None] - j, 1)
    return jnp.where(n >= K, ratio.prod(-1), jnp.nan)
