"""Scores against pretraining loss: do models of all sizes fall on one curve, and does it have a tipping point?

Losses compare only within one corpus and tokenizer. On the host, float64.

References:
    Du et al. (2024), "Understanding Emergent Abilities of Language Models from the Loss Perspective".
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize, stats

from mirage_jax.arrays import Numbers

Direction = Literal["higher", "lower"]

CLAIM = 10.0  # AICc by which the hinge must beat every smooth curve
METRICS_NEEDED = 2
_BEND = 2 * math.log(9)  # 10-90 width of a logistic curve, in its width parameter
_POWERS = np.geomspace(1 / 3, 3, 97)  # exponents tried


class Collapse(NamedTuple):
    """One curve for all models against one for each.

    `f` compares their residuals, `p` is its permutation p-value, `share` the part of the common curve's residual sum of
    squares that lies between groups, `overlap` the share of points within the losses of another group, `curve` [points]
    the common curve. Without overlap any groups fall on one curve: f and p are NaN.
    """

    f: float
    p: float
    share: float
    overlap: float
    curve: np.ndarray


class LossThreshold(NamedTuple):
    """The hinge y = chance + slope max(0, eta - loss)^gamma, with the profile-likelihood interval [low, high] of eta.

    An end is infinite where the data do not close it. `gain` is the AICc of the best smooth monotone curve (`rival`) less
    that of the hinge; `dispersion` the chi-square per degree of freedom by which both were divided, 1 or more.
    """

    eta: float
    low: float
    high: float
    slope: float
    gamma: float
    gain: float
    rival: str
    dispersion: float


class TippingPoint(NamedTuple):
    """Whether the hinge is claimed, the fit under each metric, and why not (empty where it is)."""

    claimed: bool
    fits: tuple[LossThreshold, ...]
    reason: str


def collapse(
    loss: Numbers,
    score: Numbers,
    group: Numbers | Sequence[str],
    *,
    direction: Direction = "higher",
    permutations: int = 999,
    seed: int = 0,
) -> Collapse:
    """Whether points of different models, sizes or token counts fall on one monotone curve of score against loss.

    Isotonic regressions, one for all (RSS_1, k_1 levels) and one per group (RSS_g, k_g levels in all):

        F = (RSS_1 - RSS_g) / max(k_g - k_1, 1) / (RSS_g / max(n - k_g, 1))

    F has no F law here. Its p-value comes from permuting the labels within blocks of neighbouring losses, twice as many
    points as groups to a block: under one curve a label says nothing beyond the loss. A block of one group adds nothing.

    Args:
        loss: of each point.
        score: of each point.
        group: the model, size or run of each point: any labels.
        direction: `lower` for scores that fall as the model gets better.
        permutations: how many.
        seed: of the permutations.

    Raises:
        ValueError: vectors of different lengths, values that are not finite, fewer than 2 groups or 3 points in one.
    """
    x, y = _points(loss, score)
    labels, counts = np.unique(np.asarray(group), return_counts=True)
    if np.shape(group) != x.shape or labels.size < 2 or counts.min() < 3:
        raise ValueError(f"a collapse needs at least 2 groups of at least 3 points, got counts {counts.tolist()}")
    if permutations < 1:
        raise ValueError(f"permutations must be >= 1, got {permutations}")
    order = np.argsort(x, kind="stable")
    x, y = x[order], _better(direction) * y[order]
    label = np.searchsorted(labels, np.asarray(group)[order])
    curve = _isotonic(x, y)[0]
    residual = y - curve
    total = float((residual**2).sum())
    between = float((np.bincount(label, residual) ** 2 / counts).sum())
    ends = np.array([(x[label == g].min(), x[label == g].max()) for g in range(labels.size)])
    inside = (ends[:, :1] <= x) & (x <= ends[:, 1:]) & (label != np.arange(labels.size)[:, None])
    shared = inside.any(0)
    f, p = math.nan, math.nan
    if shared.any():
        f, rng = _f(x, y, label), np.random.default_rng(seed)
        block = np.arange(x.size) // (2 * labels.size)
        drawn = [_f(x, y, label[np.lexsort((rng.random(x.size), block))]) for _ in range(permutations)]
        p = (1 + sum(one >= f for one in drawn)) / (1 + permutations)
    back = np.empty_like(curve)
    back[order] = _better(direction) * curve
    return Collapse(f, p, between / total if total > 0 else 0.0, float(shared.mean()), back)


def _f(x: np.ndarray, y: np.ndarray, label: np.ndarray) -> float:
    common, levels = _isotonic(x, y)
    rss = float(((y - common) ** 2).sum())
    apart = [(y[one], *_isotonic(x[one], y[one])) for one in (label == g for g in range(label.max() + 1))]
    within = sum(float(((own - fit) ** 2).sum()) for own, fit, _ in apart)
    free = sum(k for _, _, k in apart)
    gain = max(rss - within, 0.0)
    if gain <= 1e-12 * rss:  # rounding
        return 0.0
    return gain / max(free - levels, 1) / (within / max(y.size - free, 1)) if within > 0 else math.inf


def _isotonic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, int]:
    """Least-squares fit that falls with x (ascending; equal x share a value), and the number of its levels."""
    _, at, count = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(at, weights=y) / count
    found = optimize.isotonic_regression(means, weights=count, increasing=False)
    return found.x[at], len(found.blocks) - 1


def loss_threshold_fit(
    loss: Numbers,
    score: Numbers,
    se: Numbers,
    chance: float,
    *,
    gamma: float | None = 1.0,
    direction: Direction = "higher",
    width: float = 0.2,
    level: float = 0.95,
) -> LossThreshold:
    """Fit the score that stays at chance down to a loss eta and leaves it there.

        y = chance + slope max(0, eta - loss)^gamma,   slope >= 0 (<= 0 for `lower`)

    Weighted least squares on a grid of eta, refined; slope in closed form. The rivals are smooth and monotone: a
    straight line (intercept free), an exponential, and a logistic curve and a softplus whose bend, 10-90 width, is at
    least `width` of the range of the losses and 1.5 of their median spacing, for a narrower bend is a hinge. All start
    from chance but the line. AICc after division by the dispersion: scatter between models is not evidence.

    Args:
        loss: of each point.
        score: of each point.
        se: standard error of each score, > 0.
        chance: score of a guess: 1 / options, or .75 for the summed Brier score of four.
        gamma: exponent, or None to fit it between 1/3 and 3.
        direction: `lower` for scores that fall as the model gets better.
        width: the narrowest bend that still counts as smooth, as a share of the range of the losses.
        level: of the interval of eta.

    Raises:
        ValueError: vectors of different lengths, values that are not finite, se <= 0, fewer than 6 different losses.
    """
    x, y = _points(loss, score)
    error = np.broadcast_to(np.asarray(se, dtype=float), x.shape)
    if not (np.all((error > 0) & np.isfinite(error)) and math.isfinite(chance)):
        raise ValueError(f"needs finite standard errors > 0 and a finite chance, got {error.min()} and {chance}")
    if np.unique(x).size < 6:
        raise ValueError(f"a threshold needs at least 6 different losses, got {np.unique(x).size}")
    if not ((gamma is None or gamma > 0) and width > 0 and 0 < level < 1):
        raise ValueError(f"needs gamma > 0, width > 0 and level in (0, 1), got {gamma}, {width} and {level}")
    d, w, span = _better(direction) * (y - chance), error**-2.0, float(np.ptp(x))
    powers = _POWERS if gamma is None else np.array([gamma])

    def profile(eta: np.ndarray) -> np.ndarray:
        """Chi-square at [eta, power]."""
        return _scaled(np.maximum(0, eta[:, None, None] - x) ** powers[:, None], d, w)[0]

    grid, ratio = np.linspace(x.min(), x.max() + span, 401), float(_POWERS[2] / _POWERS[0])
    eta, best = math.nan, math.nan
    for _ in range(4):
        at, power = np.unravel_index(profile(grid).argmin(), (grid.size, powers.size))
        step = grid[1] - grid[0]
        eta, best = float(grid[at]), float(powers[power])
        if gamma is None:
            powers = np.clip(np.geomspace(best / ratio, best * ratio, 25), 1 / 3, 3)
            ratio **= 1 / 6  # two steps of the grid just made
        grid = np.clip(np.linspace(eta - 2 * step, eta + 2 * step, 41), x.min(), x.max() + span)
    chi, slope = (float(part) for part in _scaled(np.maximum(0, eta - x) ** best, d, w))
    rivals = _rivals(x, d, w, max(width * span, 1.5 * float(np.median(np.diff(np.unique(x))))) / _BEND)
    parameters = 3 if gamma is None else 2
    least = [(chi, parameters), *rivals.values()]
    dispersion = max(1.0, min(one / max(x.size - k, 1) for one, k in least))
    rival = min(rivals, key=lambda name: _aicc(*rivals[name], x.size, dispersion))
    gain = _aicc(*rivals[rival], x.size, dispersion) - _aicc(chi, parameters, x.size, dispersion)
    powers = _POWERS if gamma is None else powers
    limit = chi + dispersion * float(stats.chi2.ppf(level, 1))
    low, high = (_end(profile, eta, stop, way, limit) for stop, way in ((x.min(), -1), (x.max() + span, 1)))
    return LossThreshold(eta, low, high, _better(direction) * slope, best, gain, rival, dispersion)


def tipping_point(
    loss: Numbers,
    scores: Numbers,
    se: Numbers,
    chance: Numbers,
    *,
    directions: tuple[Direction, ...] = ("higher",),
    gamma: float | None = 1.0,
    width: float = 0.2,
) -> TippingPoint:
    """Claim a tipping point only if the hinge beats every smooth curve by an AICc of 10 under at least 2 metrics.

    Give continuous metrics: under exact match or accuracy alone a hinge may be the metric's. A hinge without at least two
    points on its flat side was not seen.

    Args:
        loss: [points].
        scores: [metrics, points], or [points] for a single one (never enough for a claim).
        se: standard errors, same shape.
        chance: of each metric, [metrics].
        directions: of each metric, or one for all.
        gamma: exponent, or None to fit it.
        width: see `loss_threshold_fit`.
    """
    y = np.atleast_2d(np.asarray(scores, dtype=float))
    error = np.broadcast_to(np.asarray(se, dtype=float), y.shape)
    floor = np.broadcast_to(np.asarray(chance, dtype=float), len(y))
    ways = directions * len(y) if len(directions) == 1 else directions
    if len(ways) != len(y):
        raise ValueError(f"needs one direction or one per metric, got {len(ways)} for {len(y)}")
    x = np.asarray(loss, dtype=float)
    fits = tuple(
        loss_threshold_fit(x, one, e, float(c), gamma=gamma, direction=way, width=width)
        for one, e, c, way in zip(y, error, floor, ways, strict=True)
    )
    survive = sum(fit.gain > CLAIM and int((x >= fit.eta).sum()) >= 2 for fit in fits)
    claimed = survive >= METRICS_NEEDED
    counted = f"{survive} of {len(fits)} metrics show a flat side and prefer the hinge by more than {CLAIM:g}"
    reason = "" if claimed else f"{counted}, needs {METRICS_NEEDED}"
    return TippingPoint(claimed, fits, reason)


def _points(loss: Numbers, score: Numbers) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(loss, dtype=float), np.asarray(score, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"loss and score must be finite vectors of one length, got shapes {x.shape} and {y.shape}")
    return x, y


def _better(direction: str) -> int:
    if direction not in ("higher", "lower"):
        raise ValueError(f"direction must be higher or lower, got {direction!r}")
    return 1 if direction == "higher" else -1


def _scaled(basis: np.ndarray, d: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Chi-square and factor s >= 0 of the best d = s basis, for every basis [..., points]: [2, ...]."""
    norm = (w * basis**2).sum(-1)
    s = np.maximum(0, (w * basis * d).sum(-1)) / np.where(norm > 0, norm, 1.0)
    return np.stack([(w * (d - s[..., None] * basis) ** 2).sum(-1), s])


def _rivals(x: np.ndarray, d: np.ndarray, w: np.ndarray, narrowest: float) -> dict[str, tuple[float, int]]:
    """Chi-square and number of parameters of the smooth curves."""
    centre = float((w * x).sum() / w.sum())
    line = _scaled(centre - x, d - float((w * d).sum() / w.sum()), w)[0]
    shapes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "exponential": np.exp,
        "logistic": lambda z: 0.5 * (1 + np.tanh(z / 2)),
        "softplus": lambda z: np.logaddexp(0, z),
    }
    # an exponential has no place of its own: its factor stands for it
    found = {name: _least(shape, x, d, w, narrowest, name != "exponential") for name, shape in shapes.items()}
    return {"line": (float(line), 2), **{name: (chi, 2 if name == "exponential" else 3) for name, chi in found.items()}}


def _least(
    shape: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    d: np.ndarray,
    w: np.ndarray,
    narrowest: float,
    moves: bool,
) -> float:
    """Least chi-square of s shape((centre - x) / width) on a grid of centres and widths, refined around the best."""
    span, chi = float(np.ptp(x)), math.inf
    centres = np.linspace(x.min() - span, x.max() + span, 121) if moves else x.min()[None]
    widths = np.geomspace(narrowest, max(3 * span, 2 * narrowest), 31)
    for _ in range(4):
        table = _scaled(shape((centres[:, None] - x) / widths[:, None, None]), d, w)[0]
        chi = min(chi, float(table.min()))
        row, column = np.unravel_index(table.argmin(), table.shape)
        ratio, step = (widths[1] / widths[0]) ** 2, 2 * (centres[1] - centres[0]) if moves else 0.0
        widths = np.geomspace(max(widths[row] / ratio, narrowest), widths[row] * ratio, 21)
        centres = centres[column] + np.linspace(-step, step, 21 if moves else 1)
    return chi


def _aicc(chi: float, parameters: int, n: int, dispersion: float) -> float:
    return chi / dispersion + 2 * parameters + 2 * parameters * (parameters + 1) / (n - parameters - 1)


def _end(profile: Callable[[np.ndarray], np.ndarray], eta: float, stop: float, toward: int, limit: float) -> float:
    """Where the profile crosses the limit, between the best eta and the end of the grid; infinite if it does not."""
    start, end = eta, stop
    for _ in range(2):
        steps = np.linspace(start, end, 400)
        over = profile(steps).min(1) > limit
        if eta == stop or not over.any():
            return math.copysign(math.inf, toward)
        start, end = steps[max(int(over.argmax()) - 1, 0)], steps[int(over.argmax())]
    return float(end)
