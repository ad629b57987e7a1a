"""Metrics of reconstructions."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def squared_error(squared: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """||x - x'||^2 summed over the sample's dimensions, in [0, inf), lower is better."""
    return squared.astype(jnp.float32)


def reconstruction(squared: Float[Array, "*batch"], c: float) -> Float[Array, "*batch"]:
    """Reconstruction_c: 1 where ||x - x'||^2 < c, else 0. Discontinuous; its mean is the error's distribution at c.

    References:
        Schaeffer, Miranda, Koyejo (2023), equation 2.
    """
    if not c > 0:
        raise ValueError(f"reconstruction needs c > 0, got {c}")
    return (squared < c).astype(jnp.float32)
