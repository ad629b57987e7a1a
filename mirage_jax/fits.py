"""Curve models fitted to thousands of curves at once: fits, profile intervals, held-out scales, comparisons.

The models stand in `curve_models`, the search in `curve_search`. All is float64, whatever the user's flag.

References:
    Marquardt (1963); Williams (1982), "Extra-Binomial Variation in Logistic Linear Models".
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import optimize, stats

from mirage_jax.arrays import Numbers
from mirage_jax.curve_models import MODELS, Model, bnsl
from mirage_jax.curve_search import Curves, Likelihood, ascending, log_density, search
from mirage_jax.estimators import Interval


class Fit(NamedTuple):
    """Fitted curves; every array has the leading axis `curves`, or none where one curve was given.

    A curve without a point is NaN throughout. n in AICc and BIC is the number of points (scales), not of test items:
    aicc = aic + 2 k (k + 1) / (n - k - 1), infinite for n <= k + 1; its term is derived for an unknown noise variance, which
    is known here, so plain AIC is the one to read.

    params: [curves, parameters], as MODELS[name].parameters; for SPL the scales, then the level at each.
    mean: [curves, scales], also where y is missing.
    converged: the last quarter of the search moved the log likelihood by less than 1e-8 of itself.
    at_bound: a parameter stands at the edge of where it was searched (a rate at 0 or 1 is no such edge).
    rho: intra-class correlation given or estimated.
    """

    params: np.ndarray
    log_likelihood: np.ndarray
    free: np.ndarray
    points: np.ndarray
    aic: np.ndarray
    aicc: np.ndarray
    bic: np.ndarray
    mean: np.ndarray
    converged: np.ndarray
    at_bound: np.ndarray
    rho: np.ndarray


class LeaveOut(NamedTuple):
    """`fit` of the smaller scales; on those held out the summed log density [curves] and |y - mean| [curves, scales]."""

    fit: Fit
    log_density: np.ndarray
    absolute_error: np.ndarray


def _curves(x: Numbers, y: Numbers, n: Any, se: Any, likelihood: str, rho: Any, chance: Any) -> tuple[Curves, bool]:
    """The arguments, checked and broadcast to [curves, scales], and whether there was one curve without that axis."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if y.ndim not in (1, 2) or x.ndim not in (1, y.ndim) or x.shape[-1:] != y.shape[-1:] or 0 in y.shape:
        raise ValueError(f"x and y must be [scales] or [curves, scales], got shapes {x.shape} and {y.shape}")
    if likelihood not in ("binomial", "beta_binomial", "gaussian"):
        raise ValueError(f"likelihood must be binomial, beta_binomial or gaussian, got {likelihood!r}")
    counts = likelihood != "gaussian"
    if (n is None) if counts else (se is None):
        raise ValueError(
            f"likelihood {likelihood} needs {'n, the test items' if counts else 'se, the standard error'} of each y"
        )
    if (se if counts else n) is not None:
        raise ValueError(f"likelihood {likelihood} takes {'n, not se' if counts else 'se, not n'}")
    if likelihood != "beta_binomial" and (rho is None or np.any(np.asarray(rho) != 0)):
        raise ValueError(f"rho belongs to likelihood beta_binomial, got rho = {rho} with {likelihood}")
    one, shape = y.ndim == 1, np.atleast_2d(y).shape
    x, y, size = (np.broadcast_to(np.asarray(a, dtype=float), shape) for a in (x, y, n if counts else se))
    rho, chance = (
        np.broadcast_to(np.asarray(a, dtype=float), shape[:1]) for a in (np.nan if rho is None else rho, chance)
    )
    seen = ~np.isnan(y)
    if not np.isfinite(x[seen]).all() or np.isinf(y).any():
        raise ValueError("y must be finite or NaN (missing), x (log10 of the scale) finite where y is")
    if counts and not np.all((y[seen] >= 0) & (y[seen] <= 1) & (size[seen] >= 1) & np.isfinite(size[seen])):
        raise ValueError("counts need rates y in [0, 1] of n >= 1 items; for other scores use likelihood gaussian")
    if not counts and not np.all((size[seen] > 0) & np.isfinite(size[seen])):
        raise ValueError("se must be positive where y is: an error of 0 is no certainty")
    if not np.all(np.isnan(rho) | (rho == 0) | ((rho >= 1e-6) & (rho < 1))):
        raise ValueError(f"rho must be 0 or in [1e-6, 1), got {rho}")
    if not np.all((chance >= 0) & (chance < 1)):
        raise ValueError(f"chance must lie in [0, 1), got {chance}")
    return Curves(x, y, size, seen, rho, chance), one


def _known(name: str) -> Model:
    """The model of that name; BNSL with any number of breaks comes into being when it is first asked for."""
    if re.fullmatch("BNSL-[1-9][0-9]?", name) and name not in MODELS:
        MODELS[name] = bnsl(int(name.removeprefix("BNSL-")))
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return MODELS[name]


def _isotonic(curves: Curves, likelihood: Likelihood) -> tuple[np.ndarray, np.ndarray]:
    """Scales, then the level at each [curves, 2 scales], and how many levels there are [curves]; equal scales are pooled.

    Exact for binomial and Gaussian; for the beta-binomial the weights are those of its variance.
    """
    width = curves.y.shape[1]
    params, levels = np.full((curves.y.shape[0], 2 * width), np.nan), np.full(curves.y.shape[0], np.nan)
    for i, (x, y, size, seen, rho, _) in enumerate(zip(*curves, strict=True)):
        if not seen.any() or np.isnan(rho):
            continue
        weight = size[seen] ** -2.0 if likelihood == "gaussian" else size[seen] / (1 + (size[seen] - 1) * rho)
        scales, group = np.unique(x[seen], return_inverse=True)
        mass = np.bincount(group, weight)
        found = optimize.isotonic_regression(np.bincount(group, weight * y[seen]) / mass, weights=mass)
        levels[i] = len(found.blocks) - 1
        more = (0, width - scales.size)
        params[i] = np.concatenate([np.pad(scales, more, mode="edge"), np.pad(found.x, more, mode="edge")])
    return params, levels


def evaluate(name: str, params: Numbers, x: Numbers) -> np.ndarray:
    """Mean of fitted curves at any x: params [..., parameters] as in `Fit`, x [scales] or [..., scales] -> [..., scales]."""
    params, x = np.asarray(params, dtype=float), np.asarray(x, dtype=float)
    expected = len(_known(name).parameters)
    if params.ndim == 0 or x.ndim == 0 or (params.shape[-1] != expected if expected else params.shape[-1] % 2):
        raise ValueError(
            f"{name} needs params [..., {expected or 'twice the scales'}] and x [..., scales], got {params.shape} and {x.shape}"
        )
    with jax.enable_x64(True):
        return np.asarray(MODELS[name].mean([p[..., None] for p in np.moveaxis(params, -1, 0)], jnp.asarray(x)))


def _moment_rho(k: np.ndarray, n: np.ndarray, rate: np.ndarray, seen: np.ndarray, free: np.ndarray) -> np.ndarray:
    """rho at which Pearson's sum of squares is its degrees of freedom (Williams 1982); 0 if it is below, NaN without any."""
    spread = n * rate * (1 - rate)
    square = np.where(seen & (spread > 0), (k - n * rate) ** 2 / np.where(spread > 0, spread, 1.0), 0.0)
    left = seen.sum(1) - free

    def excess(rho: np.ndarray) -> np.ndarray:
        return (square / (1 + (np.where(seen, n, 1.0) - 1) * rho[:, None])).sum(1) - left

    low, high = np.full(len(left), 1e-6), np.full(len(left), 1 - 1e-6)
    over = excess(low) > 0
    for _ in range(50):
        middle = np.sqrt(low * high)
        above = excess(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(left > 0, np.where(over, low, 0.0), np.nan)


def fit(
    name: str, x: Numbers, y: Numbers, *, n: Numbers | None = None, se: Numbers | None = None,
    likelihood: Likelihood = "binomial", rho: Numbers | None = 0.0, chance: Numbers = 0.0,
) -> Fit:  # fmt: skip
    """Maximum likelihood of one model for each of many curves, from every start of its grid.

    Args:
        name: key of MODELS.
        x: log10 of the scales, [scales] or [curves, scales], in any order; equal scales are repeats.
        y: scores, [scales] or [curves, scales]; NaN where missing. For counts the rates k / n.
        n: test items of each y, for binomial and beta_binomial.
        se: standard error of each y, for gaussian.
        likelihood: see `log_density`.
        rho: of the beta-binomial: one, or one a curve; None estimates it from the binomial fit's Pearson residuals, which
            counts as a parameter, NaN (as is then the fit) where there are no more points than parameters.
        chance: floor of TOY, one or one a curve; no other model reads it.

    Returns:
        Fit. A curve with fewer points than parameters is fitted, its parameters are not determined, its AICc is infinite.

    Raises:
        ValueError: an unknown model, shapes that differ, n or se missing or not positive, rates outside [0, 1].
    """
    model = _known(name)
    curves, one = _curves(x, y, n, se, likelihood, rho, chance)
    if np.isnan(curves.rho).any():
        curves = curves._replace(rho=_estimated_rho(name, curves))
    result = _fit(name, likelihood, curves, model.free + (rho is None))
    return Fit(*(a[0] for a in result)) if one else result


def _estimated_rho(name: str, curves: Curves) -> np.ndarray:
    plain = _fit(name, "binomial", curves._replace(rho=np.zeros_like(curves.rho)), MODELS[name].free)
    return _moment_rho(curves.y * curves.size, curves.size, plain.mean, curves.seen, plain.free)


def _fit(name: str, likelihood: Likelihood, curves: Curves, free: int) -> Fit:
    points = curves.seen.sum(1)
    if name == "SPL":
        params, levels = _isotonic(curves, likelihood)
        free_each, converged, at_bound = levels + free, ~np.isnan(levels), np.zeros(points.size, bool)
    else:
        _, params, _, converged, at_bound, _ = search(name, likelihood, ascending(curves))
        free_each = np.full(points.size, float(free))
    mean = evaluate(name, params, curves.x)
    value = _density(likelihood, curves, mean, curves.seen).sum(1)
    value = np.where((points > 0) & ~np.isnan(curves.rho), value, np.nan)
    aic = 2 * free_each - 2 * value
    left = points - free_each - 1
    more = np.where(left > 0, 2 * free_each * (free_each + 1) / np.where(left > 0, left, 1.0), np.inf)
    bic = free_each * np.log(np.maximum(points, 1)) - 2 * value
    return Fit(params, value, free_each, points, aic, aic + more, bic, mean, converged, at_bound, curves.rho)


def _density(likelihood: Likelihood, curves: Curves, mean: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Log density of the points at `where`, 0 elsewhere; rho = 0 is the binomial."""
    y, size, rho = np.where(where, curves.y, 0.0), np.where(where, curves.size, 1.0), curves.rho[:, None]
    with jax.enable_x64(True):
        if likelihood == "beta_binomial":
            several = log_density("beta_binomial", y, mean, size, np.where(rho > 0, rho, 0.5))
            value = jnp.where(rho > 0, several, log_density("binomial", y, mean, size))
        else:
            value = log_density(likelihood, y, mean, size)
        return np.where(where, np.asarray(value), 0.0)


def profile(
    name: str, x: Numbers, y: Numbers, parameter: str, level: float = 0.95, *, n: Numbers | None = None,
    se: Numbers | None = None, likelihood: Likelihood = "binomial", rho: Numbers | None = 0.0, chance: Numbers = 0.0,
) -> Interval:  # fmt: skip
    """Profile likelihood interval of one parameter: its values at which, all else fitted anew, 2 (max - log L) <= chi-square_1.

    From the outermost such values of a grid of 40 over the search's range and the best fit, each end is narrowed to 10^-6 of
    a cell. An end that the data leave open is -inf or inf, never the edge of the search; a rate may end at 0 or 1.

    The cut-off is nominal: chi-square_1 does not hold at the edges, which is where a width near 0, the m of STEP and HINGE
    and rates at 0 or 1 stand; simulate there. A set in several pieces is given by its hull.

    Args: as in `fit`; `parameter` is one of the coordinates of MODELS[name], `level` in (0, 1).

    Raises:
        ValueError: as `fit`, or a parameter that the search cannot hold (b of PL, s of HINGE: functions of the others).
    """
    model = _known(name)
    if not parameter or parameter not in model.coordinates:
        raise ValueError(
            f"{name} can hold {', '.join(filter(None, model.coordinates)) or 'nothing'}, got {parameter!r}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    curves, one = _curves(x, y, n, se, likelihood, rho, chance)
    if np.isnan(curves.rho).any():
        curves = curves._replace(rho=_estimated_rho(name, curves))
    ends = _profile(
        name, likelihood, ascending(curves), model.coordinates.index(parameter), float(stats.chi2.ppf(level, 1)) / 2
    )
    return Interval(ends[0, 0], ends[0, 1]) if one else Interval(ends[:, 0], ends[:, 1])


def _profile(name: str, likelihood: Likelihood, curves: Curves, held: int, drop: float) -> np.ndarray:
    model = MODELS[name]
    best, _, top, _, _, box = search(name, likelihood, curves)

    def refit(values: np.ndarray) -> np.ndarray:
        many = Curves(*(np.repeat(a, values.shape[1], axis=0) for a in curves))
        pinned = np.full((values.size, len(model.coordinates)), np.nan)
        pinned[:, held] = values.ravel()
        return search(name, likelihood, many, pinned)[2].reshape(values.shape)

    values = np.sort(np.concatenate([np.linspace(box[:, held, 0], box[:, held, 1], 40, axis=1), best[:, [held]]], 1))
    found = refit(values)
    least = np.fmax(top, np.fmax.reduce(found, axis=1))[:, None] - drop
    inside = found >= least
    edge = np.stack([inside.argmax(1), values.shape[1] - 1 - inside[:, ::-1].argmax(1)], 1)
    beyond = edge + np.array([-1, 1])
    opened = (beyond < 0) | (beyond >= values.shape[1])
    inner = np.take_along_axis(values, edge, 1)
    outer = np.take_along_axis(values, np.clip(beyond, 0, values.shape[1] - 1), 1)
    for _ in range(6):
        share = np.arange(10) / 9
        cut = inner[..., None] + (outer - inner)[..., None] * share
        held_in = refit(cut[..., 1:-1].reshape(len(cut), -1)).reshape(len(cut), 2, 8) >= least[..., None]
        reach = np.where(held_in, np.arange(1, 9), 0).max(2)[..., None]
        inner, outer = np.take_along_axis(cut, reach, 2)[..., 0], np.take_along_axis(cut, reach + 1, 2)[..., 0]
    column, ends = model.parameters.index(model.coordinates[held]), np.empty_like(inner)
    for side in (0, 1):
        v = best.copy()
        v[:, held] = inner[:, side]
        with jax.enable_x64(True):
            ends[:, side] = model.natural(v.T, curves.x[:, 0], curves.x[:, -1])[column]
    falling = ends[:, :1] > ends[:, 1:]
    ends, opened = np.where(falling, ends[:, ::-1], ends), np.where(falling, opened[:, ::-1], opened)
    if likelihood == "gaussian" or held > 1:
        ends = np.where(opened, [-np.inf, np.inf], ends)
    return np.where(inside.any(1, keepdims=True), ends, np.nan)


def leave_largest_out(
    name: str, x: Numbers, y: Numbers, held: int = 1, *, first: int | None = None, n: Numbers | None = None,
    se: Numbers | None = None, likelihood: Likelihood = "binomial", rho: Numbers | None = 0.0, chance: Numbers = 0.0,
) -> LeaveOut:  # fmt: skip
    """Fit without the `held` largest scales, or without those from index `first` of the ascending distinct scales upwards.

    Evidence only, for it points the wrong way: a step inside the range leaves a flat tail, easy to foretell, while a smooth
    curve still rising is hard. To ask whether a jump could be foretold, give as `first` the scale of its onset.

    Other arguments, and what is raised, as in `fit`. A curve without scales left to fit is NaN; the log density is -inf where
    the curve foretells a rate of exactly 0 or 1, or beyond, and is wrong.
    """
    model = _known(name)
    curves, one = _curves(x, y, n, se, likelihood, rho, chance)
    if held < 1 or (first is not None and first < 1):
        raise ValueError(f"held and first must be >= 1, got {held} and {first}")
    rank = stats.rankdata(np.where(curves.seen, curves.x, np.inf), "dense", axis=1) - 1
    distinct = np.where(curves.seen, rank + 1, 0).max(1, keepdims=True)
    out = curves.seen & (rank >= (distinct - held if first is None else first))
    train = curves._replace(seen=curves.seen & ~out)
    if np.isnan(curves.rho).any():
        train = train._replace(rho=_estimated_rho(name, train))
    fitted = _fit(name, likelihood, train, model.free + (rho is None))
    density = _density(likelihood, curves._replace(rho=train.rho), fitted.mean, out).sum(1)
    density = np.where(out.any(1) & ~np.isnan(fitted.log_likelihood), density, np.nan)
    error = np.where(out, np.abs(curves.y - fitted.mean), np.nan)
    return LeaveOut(Fit(*(a[0] for a in fitted)), density[0], error[0]) if one else LeaveOut(fitted, density, error)


def compare(names: Sequence[str], x: Numbers, y: Numbers, **data: Any) -> pd.DataFrame:
    """One row for each curve and model: what `fit` says of it, and its Akaike weight among `names`, from plain AIC.

    Columns: curve, model, free, points, log_likelihood, aic, aicc, bic, weight, converged, at_bound. Weights rank families of
    curves, some of which are limits of others: no weight is evidence for a jump. `data` goes to `fit`; give one rho, since
    models that each estimate their own are not compared on the same data.
    """
    if not names or len(set(names)) < len(names):
        raise ValueError(f"compare needs different models, got {list(names)}")
    fields = ("free", "points", "log_likelihood", "aic", "aicc", "bic", "converged", "at_bound")
    rows = []
    for name in names:
        found = fit(name, x, y, **data)
        columns = {field: np.atleast_1d(getattr(found, field)) for field in fields}
        rows.append(pd.DataFrame({"curve": np.arange(columns["aic"].size), "model": name} | columns))
    table = pd.concat(rows, ignore_index=True).sort_values("curve", kind="stable", ignore_index=True)
    weight = np.exp((table.groupby("curve")["aic"].transform("min") - table["aic"]) / 2)
    table.insert(table.columns.get_loc("bic") + 1, "weight", weight / weight.groupby(table["curve"]).transform("sum"))
    return table
