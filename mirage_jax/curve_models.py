"""Curve models of a score against scale: their means, parameters, and where and from where they are searched.

    C            lo                                                                 1 free parameter
    PL           a + b 10^(-c x),  c > 0: a power law that saturates                3
    TOY          chance + (1 - chance) exp(-10^(alpha (x - x_c))),  alpha < 0       2
    SIG          lo + (hi - lo) sigmoid(2 ln 9 (x - centre) / width)                4
    HINGE        lo + s max(0, x - m)                                               3
    HINGE_GAMMA  lo + s max(0, x - m)^gamma                                         4
    STEP         lo below m, hi above                                               3
    SPL          weighted isotonic regression, never falling                        as many as levels
    BNSL-k       a + b 10^(-c0 x) prod_i (1 + 10^((x - d_i) / f_i))^(-c_i f_i)      3 + 3 k, see `bnsl`

x is log10 of the scale, so widths are in decades (`width`: from 10 to 90% of the rise) and slopes per decade.

Names are not hypotheses: STEP is SIG at width 0, HINGE lies within BNSL-1 and next to SIG, so compare widths.

TOY is exact match exp(-L (N/c)^alpha) of L independent tokens. L and c enter as c' = c L^(-1/alpha) alone: one score cannot
tell them apart, and x_c = log10 c' is what is fitted. A fit of TOY neither certifies nor refutes a metric's doing.

References:
    Schaeffer, Miranda, Koyejo (2023); Caballero et al. (2023), "Broken Neural Scaling Laws".
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

LN10, LN81 = math.log(10), math.log(81)


class Model(NamedTuple):
    """One family of curves, and how it is searched.

    The search moves v = (value at one end, value at the other, *shape), each within a box, since rates then stay in [0, 1].

    mean: (params, x) -> mean; params are indexed along their leading axis and broadcast against x.
    parameters: names of the columns of params. `free` counts fewer where a column is given (chance) and not fitted.
    natural: (v, x0, x1) -> params, x0 and x1 the smallest and the largest x that was seen.
    coordinates: what each of v is called; "" where it is no parameter by itself, so that `profile` cannot hold it.
    box: (x0, x1) -> [shape, 2], the bounds of the shape.
    starts: (x, x0, x1) -> [starts, alternatives, shape], x ascending. A start is the best alternative of its row, with ends by
        least squares.
    ends: whether the two ends are fitted; else they are chance and 1.
    by_gap: whether each start keeps the first of its shape (m) within one gap between scales, where the likelihood is smooth.
    steps: of the search.
    batch: curves a device call, filled up if fewer, so that one program serves a model at a number of scales.
    """

    mean: Callable[[Any, Any], Any]
    parameters: tuple[str, ...]
    free: int
    natural: Callable[[Any, Any, Any], tuple] = lambda v, x0, x1: tuple(v)
    coordinates: tuple[str, ...] = ()
    box: Callable[[Any, Any], Any] = lambda x0, x1: jnp.zeros((0, 2))
    starts: Callable[[Any, Any, Any], Any] = lambda x, x0, x1: jnp.zeros((1, 1, 0))
    ends: bool = True
    by_gap: bool = False
    steps: int = 40
    batch: int = 32


def _hinge(p: Any, x: Any) -> Any:
    above = x > p[2]
    return p[0] + p[1] * jnp.where(above, jnp.where(above, x - p[2], 1.0) ** (p[3] if len(p) > 3 else 1.0), 0.0)


def _levels(p: Any, x: Any) -> Any:
    """Straight between the scales, flat beyond."""
    scales, level = p[: len(p) // 2], p[len(p) // 2 :]
    y = level[0] + 0 * x
    for i in range(1, len(scales)):
        gap = scales[i] - scales[i - 1]
        y = y + (level[i] - level[i - 1]) * jnp.clip((x - scales[i - 1]) / jnp.where(gap > 0, gap, 1.0), 0, 1)
    return y


def _broken(p: Any, x: Any) -> Any:
    return p[0] + p[1] * _bends(p[2:], x)


def _bends(shape: Any, x: Any) -> Any:
    power = -shape[0] * x
    for c, d, f in (shape[i : i + 3] for i in range(1, len(shape), 3)):
        power = power - c * f * jnp.logaddexp(0.0, (x - d) / f * LN10) / LN10
    return 10.0**power


def _steepest(x0: Any, x1: Any) -> Any:
    """Exponents per decade beyond which a power of the scale would leave float64."""
    return 120 / jnp.maximum(jnp.maximum(jnp.abs(x0), jnp.abs(x1)), 1)


def _gaps(x: Any) -> Any:
    return (x[1:] + x[:-1]) / 2


def _hinges(x: Any, gamma: Any) -> Any:
    """In every gap three places of m, each with every gamma."""
    place = jnp.array([0.0, 0.3, 0.7])
    m = x[:-1, None, None] + jnp.diff(x)[:, None, None] * place[:, None] + 0 * gamma
    return jnp.stack([m, jnp.log10(gamma) + 0 * m], -1).reshape(x.size - 1, -1, 2)


def _grid(*axes: Any) -> Any:
    """The rows of the first axis, each with every combination of the others: [rows, combinations, axes]."""
    mesh = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)
    return mesh.reshape(mesh.shape[0], -1, len(axes))


def _sigmoids(x: Any, x0: Any, x1: Any) -> Any:
    span = x1 - x0
    beyond = jnp.stack([x0 - 0.15 * span, x1 + 0.15 * span])
    width = span * jnp.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 4])
    return _grid(jnp.concatenate([beyond, _gaps(x)]), jnp.log10(width))


def _toys(x: Any, x0: Any, x1: Any) -> Any:
    """Slopes, each with the value in the middle of the range as log10 of -log of the rate."""
    slope, middle = jnp.moveaxis(
        _grid(jnp.log10(jnp.geomspace(0.05, 30, 10) / (x1 - x0)), jnp.linspace(-3, 2, 24)), -1, 0
    )
    return jnp.stack([slope, (x0 + x1) / 2 + middle / 10**slope], -1)


def _pair(low: Any, high: Any) -> Any:
    return jnp.stack([jnp.asarray(low), jnp.asarray(high)])


def _box_hinge(x0: Any, x1: Any) -> Any:
    return jnp.stack([_pair(x0, x1 - 1e-3 * (x1 - x0)), jnp.log10(_pair(0.2, 5.0))])


MODELS: dict[str, Model] = {
    "C": Model(lambda p, x: p[0] + 0 * x, ("lo",), 1, lambda v, x0, x1: (v[0],), ("lo", "")),
    "PL": Model(
        lambda p, x: p[0] + p[1] * 10.0 ** (-p[2] * x), ("a", "b", "c"), 3,
        lambda v, x0, x1: (v[0], (v[1] - v[0]) * 10.0 ** (10.0 ** v[2] * x0), 10.0 ** v[2]), ("a", "", "c"),
        lambda x0, x1: jnp.log10(_pair(0.01 / (x1 - x0), jnp.minimum(100 / (x1 - x0), _steepest(x0, x1))))[None],
        lambda x, x0, x1: _grid(jnp.log10(jnp.geomspace(0.02, 50, 12) / (x1 - x0))), steps=80,
    ),
    "TOY": Model(
        lambda p, x: p[2] + (1 - p[2]) * jnp.exp(-(10.0 ** jnp.minimum(p[0] * (x - p[1]), 300.0))),
        ("alpha", "x_c", "chance"), 2, lambda v, x0, x1: (-(10.0 ** v[2]), v[3], v[0]), ("", "", "alpha", "x_c"),
        lambda x0, x1: jnp.stack([jnp.log10(_pair(0.01, 100) / (x1 - x0)), x0 + (x1 - x0) * _pair(-100, 100)]),
        _toys, ends=False, steps=60,
    ),
    "SIG": Model(
        lambda p, x: p[0] + (p[1] - p[0]) * jax.nn.sigmoid(LN81 * (x - p[2]) / p[3]), ("lo", "hi", "centre", "width"), 4,
        lambda v, x0, x1: (v[0], v[1], v[2], 10.0 ** v[3]), ("lo", "hi", "centre", "width"),
        lambda x0, x1: jnp.stack([x0 + (x1 - x0) * _pair(-1, 2), jnp.log10((x1 - x0) * _pair(1e-3, 20))]), _sigmoids,
    ),
    "HINGE": Model(
        _hinge, ("lo", "s", "m"), 3, lambda v, x0, x1: (v[0], (v[1] - v[0]) / (x1 - v[2]), v[2]), ("lo", "", "m"),
        lambda x0, x1: _box_hinge(x0, x1)[:1], lambda x, x0, x1: _hinges(x, jnp.ones(1))[..., :1], by_gap=True,
    ),
    "HINGE_GAMMA": Model(
        _hinge, ("lo", "s", "m", "gamma"), 4,
        lambda v, x0, x1: (v[0], (v[1] - v[0]) / (x1 - v[2]) ** 10.0 ** v[3], v[2], 10.0 ** v[3]), ("lo", "", "m", "gamma"),
        _box_hinge, lambda x, x0, x1: _hinges(x, jnp.array([0.3, 0.6, 1, 1.7, 3])), by_gap=True, steps=80,
    ),
    "STEP": Model(
        lambda p, x: jnp.where(x > p[2], p[1], p[0]), ("lo", "hi", "m"), 3, lambda v, x0, x1: tuple(v), ("lo", "hi", "m"),
        lambda x0, x1: _pair(x0, x1)[None], lambda x, x0, x1: _grid(_gaps(x)),
    ),
    "SPL": Model(_levels, (), 0),  # closed form: no search
}  # fmt: skip


def bnsl(breaks: int) -> Model:
    """BNSL with so many breaks, under the name "BNSL-1", "BNSL-2", ...; 32 starts, spread over the place of the first break.

    It describes and never decides: at 6 parameters and more it is saturated below 7 scales, it holds a hinge (f -> 0), and
    its best fit often stands at the edge of the search. Give it 12 scales or more.

    Raises:
        ValueError: breaks < 1.
    """
    if breaks < 1:
        raise ValueError(f"BNSL needs at least 1 break, got {breaks}")

    def box(x0: Any, x1: Any) -> Any:
        steep = jnp.minimum(12 / (x1 - x0), _steepest(x0, x1) / (1 + breaks))
        first, width = _pair(-steep, steep), jnp.log10((x1 - x0) * _pair(3e-3, 2))
        return jnp.stack([first, *[first, x0 + (x1 - x0) * _pair(-0.2, 1.2), width] * breaks])

    def starts(x: Any, x0: Any, x1: Any) -> Any:
        share = qmc.Sobol(1 + 3 * breaks, rng=np.random.default_rng(0)).random_base2(11)
        share = share[np.argsort(share[:, 2])].reshape(32, 64, -1)
        low, high = jnp.moveaxis(box(x0, x1), 1, 0)
        return low + (high - low) * share

    def natural(v: Any, x0: Any, x1: Any) -> tuple:
        shape = [10.0 ** v[i] if i > 2 and (i - 2) % 3 == 0 else v[i] for i in range(2, 3 + 3 * breaks)]
        return (v[0], (v[1] - v[0]) / _bends(shape, x0), *shape)

    shape = ("c0", *(f"{letter}{i + 1}" for i in range(breaks) for letter in "cdf"))
    return Model(
        _broken, ("a", "b", *shape), 3 + 3 * breaks, natural, ("a", "", *shape), box, starts, steps=400, batch=2
    )


MODELS |= {"BNSL-1": bnsl(1), "BNSL-2": bnsl(2)}
