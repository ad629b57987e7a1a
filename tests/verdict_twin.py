"""The verdict's rule again, for one case at a time, in numpy and scipy: slow, plain, and without a line of the rule's code.

It takes one row of `Cases` and gives the label, the step and the evidence under the rule's names. Thresholds and grids of
numbers are the rule's own; what is done with them is written anew: shapes are distribution functions of scipy.stats, fits
are scipy.optimize.nnls, the isotonic curve, tests and limits are scipy's, links are bounded minimisations.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from mirage_jax.decide import links, rule, shapes

LAWS = (stats.logistic, stats.gumbel_r, stats.gumbel_l, stats.uniform)
POLISHED = 200  # points of a link's parameter before it is refined


class Grid(NamedTuple):
    """Every shape at the scales of one curve."""

    phi: np.ndarray  # [shapes, scales]
    nominal: np.ndarray  # width that the grid has it under: gaps, 0 for steps, inf for trends
    centre: np.ndarray
    width: np.ndarray
    gap: np.ndarray


@lru_cache(maxsize=64)
def every_shape(x: tuple[float, ...]) -> Grid:
    """The shapes at the scales x, kept for the next curve at the same scales."""
    at, m = np.array(x), len(x)
    gaps, even = np.diff(at), (x[-1] - x[0]) / (m - 1)

    def gap(centre: np.ndarray) -> np.ndarray:
        return gaps[np.clip(np.searchsorted(at, centre) - 1, 0, m - 2)]

    widths = list(shapes.WIDTHS[1:])
    while widths[-1] < shapes.WIDER * (m - 1):
        widths.append(shapes.WIDER * widths[-1])
    steps = np.array([[j > i for j in range(m)] for i in range(m - 1)], float)
    parts = [(steps, np.zeros(m - 1), (at[1:] + at[:-1]) / 2, np.zeros(m - 1), gaps)]
    for law in LAWS:
        scale = 1 / (law.ppf(0.9) - law.ppf(0.1))
        for k in widths:
            index = np.arange(-k, m - 1 + k + 1e-9, max(1 / 6, k / 10))
            index = index[index <= m - 1 + k]
            if k <= shapes.NARROW:
                left = np.clip(np.floor(index).astype(int), 0, m - 2)
                centre = at[left] + (index - left) * gaps[left]
                width = k * gap(centre)
            else:
                centre = at[0] + index * even
                width = np.full(len(index), k * even)
            z = (at - centre[:, None]) / width[:, None]
            phi = law.cdf(z, loc=-law.ppf(0.5) * scale, scale=scale)
            parts.append((phi, np.full(len(index), k), centre, width, gap(centre)))
    u = (at - at[0]) / (at[-1] - at[0])
    rates = [sign * rate * (m - 1) for sign in (1, -1) for rate in shapes.RATES]
    trends = np.array([u, *((np.exp(r * u) - 1) / (np.exp(r) - 1) for r in rates)])
    far = np.full(len(trends), np.inf)
    parts.append((trends, far, far, far, np.zeros(len(trends))))
    return Grid(*(np.concatenate(part) for part in zip(*parts, strict=True)))


class Fit(NamedTuple):
    """Least squares of lo + J phi and of lo + s u + J phi, of every shape."""

    plain: np.ndarray  # chi2
    sloped: np.ndarray
    rise: np.ndarray  # J of the sloped fit, and its standard error
    rise_se: np.ndarray
    slope: np.ndarray


def by_nnls(phi: np.ndarray, u: np.ndarray, y: np.ndarray, w: np.ndarray) -> Fit:
    """One shape after the other. A shape that hardly moves, or is a straight line, to 1e-9 is no shape (no bend)."""
    root, total = np.sqrt(w), w.sum()

    def free(of: np.ndarray) -> np.ndarray:
        return root * (of - (w * of).sum() / total)  # lo is free

    target, line, out = free(y), free(u), []
    chi2 = target @ target
    straight, off = optimize.nnls(line[:, None], target)
    for each in phi:
        shape = free(each)
        power = shape @ shape
        if power <= 1e-9 * total:
            out.append((chi2, off**2, 0.0, 1.0, straight[0]))
            continue
        j, plain = optimize.nnls(shape[:, None], target)
        bent = 1 - (shape @ line) ** 2 / power / (line @ line) > 1e-9
        both, sloped = optimize.nnls(np.column_stack([line, shape]), target) if bent else (np.zeros(2), math.inf)
        if both.min() > 0:
            covariance = np.linalg.inv(np.array([[line @ line, line @ shape], [line @ shape, power]]))
            out.append((plain**2, sloped**2, both[1], math.sqrt(covariance[1, 1]), both[0]))
        elif off < plain:
            out.append((plain**2, off**2, 0.0, power**-0.5, straight[0]))
        else:
            out.append((plain**2, plain**2, j[0], power**-0.5, 0.0))
    return Fit(*np.array(out).T)


def by_hand(phi: np.ndarray, u: np.ndarray, y: np.ndarray, w: np.ndarray) -> Fit:
    """All shapes of a curve at once, by Cramer's rule: what `by_nnls` finds, quickly."""
    total = w.sum()
    y, u = y - (w * y).sum() / total, u - (w * u).sum() / total
    shape = phi - (phi @ w / total)[:, None]
    ff, fu, fy = (shape * shape) @ w, shape @ (w * u), shape @ (w * y)
    uu, uy, yy = (w * u * u).sum(), (w * u * y).sum(), (w * y * y).sum()
    moves = ff > 1e-9 * total
    ff = np.where(moves, ff, 1)
    j = np.where(moves, np.maximum(fy, 0), 0) / ff
    plain = yy - j**2 * ff
    det = ff * uu - fu**2
    bent = moves & (det > 1e-9 * ff * uu)
    det = np.where(bent, det, 1)
    s, rise = (uy * ff - fy * fu) / det, (fy * uu - uy * fu) / det
    inner = bent & (s > 0) & (rise > 0)
    straight = max(uy, 0) / uu
    off = yy - straight**2 * uu
    better = off < plain
    return Fit(
        plain,
        np.where(inner, yy - s * uy - rise * fy, np.minimum(off, plain)),
        np.where(inner, rise, np.where(better, 0, j)),
        np.sqrt(np.where(inner, uu / det, 1 / ff)),
        np.where(inner, s, np.where(better, straight, 0)),
    )


def judge_one(case: Any, fit: Callable[..., Fit] = by_nnls) -> tuple[str, str, dict[str, Any]]:
    """Label, step and evidence of one case: a `Cases` whose fields are one row each."""
    m = int(case.size)
    case = case._replace(**{
        name: np.asarray(value)[:m] for name, value in case._asdict().items() if np.ndim(value)
    })  # fmt: skip
    if m < rule.SCALES:
        return rule.STEPS["few scales"], "few scales", {}
    e = of_shapes(case, m, fit) | of_metric(case, m)
    e |= of_companion(case, e)
    step = next(of_rule(case, m, e))
    return rule.STEPS[step], step, e


def of_shapes(case: Any, m: int, fit: Callable[..., Fit]) -> dict[str, Any]:
    """Evidence of the curve of the linear metric."""
    x, y = case.x, case.linear
    grid = every_shape(tuple(x.tolist()))
    u = (x - x[0]) / (x[-1] - x[0])

    def noise(sd: float) -> np.ndarray:
        return np.sqrt(case.linear_se**2 + shapes.FLOOR**2 + (sd * y * (1 - y)) ** 2)

    def cubic(error: np.ndarray) -> float:
        return float(
            (((y - np.polyval(np.polyfit(2 * u - 1, y, min(3, m - 1), w=1 / error), 2 * u - 1)) / error) ** 2).sum()
        )

    def best(error: np.ndarray) -> float:
        return min(cubic(error), fit(grid.phi, u, y, error**-2).sloped.min())

    scatter = float(case.scatter)
    if math.isnan(scatter):
        enough = max(1, m - 5)
        scatter = next((sd for sd in shapes.SCATTERS if best(noise(sd)) <= enough), shapes.SCATTERS[-1])
    error = noise(scatter)
    w = error**-2
    found = fit(grid.phi, u, y, w)
    mean = (w * y).sum() / w.sum()
    narrow = grid.width <= np.minimum(shapes.NARROW * grid.gap, case.sharp)
    at = np.flatnonzero(narrow)[found.sloped[narrow].argmin()]
    steep = grid.width <= shapes.STEP * grid.gap
    within = grid.phi[:, -1] - grid.phi[:, 0]  # of a shape that rises beyond the ends only the tail counts
    jumps = steep & (found.rise * within >= max(shapes.JUMP, shapes.SHARE * np.ptp(y)))
    wide, wide_slope = found.plain[~narrow].min(), found.sloped[~narrow].min()
    up, down = (sign * optimize.isotonic_regression(sign * y, weights=w).x for sign in (1, -1))
    isotonic, falling = ((w * (y - of) ** 2).sum() for of in (up, down))
    constant = (w * (y - mean) ** 2).sum()
    falls = [y[i] - y[j] - 2 * math.hypot(error[i], error[j]) for i in range(m) for j in range(i + 1, m)]
    below = int((x <= grid.centre[at]).sum())
    plateau, rise_high = linear_plateau(y, error)
    e = width_interval(grid, found.sloped) | {
        "scatter": scatter, "p_flat": stats.chi2.sf(constant, m - 1), "p_monotone": monotone_tail(isotonic, m),
        "drop": max(falls), "falls": float(monotone_tail(falling, m) > rule.ALPHA), "hump": isotonic - cubic(error),
        "range": np.ptp(y), "median_se": np.median(error), "jump": found.rise[at] * within[at],
        "jump_se": found.rise_se[at] * within[at], "jump_at": grid.centre[at], "gap": grid.gap[at],
        "beside": min(below, m - below), "wide_over_narrow": wide - found.sloped[at],
        "wide_slope_over_narrow": wide_slope - found.sloped[at], "step_over_wide": found.plain[steep].min() - wide_slope,
        "step_slope_over_wide": found.sloped[jumps].min(initial=math.inf) - wide_slope,
        "plateau_linear": plateau, "plateau_rise_high": rise_high,
    }  # fmt: skip
    return e | {  # what the rule keeps to itself
        "error": error, "constant": constant, "narrow": found.plain[narrow].min(), "narrow_slope": found.sloped[at],
        "wide": wide, "wide_slope": wide_slope, "isotonic": isotonic, "cubic": cubic(error),
        "ties": np.ptp(grid.centre[narrow & (found.sloped < found.sloped[at] + 1e-6 * (1 + constant))]) > 0,
    }  # fmt: skip


def width_interval(grid: Grid, chi2: np.ndarray) -> dict[str, float]:
    """Where the profile over the width crosses its least by OPEN, straight lines between the grid's widths."""
    rows = []
    for nominal in sorted(set(grid.nominal[np.isfinite(grid.nominal)])):
        of = np.flatnonzero(grid.nominal == nominal)
        at = of[chi2[of].argmin()]
        rows.append((chi2[at], grid.width[at], grid.gap[at]))
    least = min(row[0] for row in rows)
    inside = [i for i, row in enumerate(rows) if row[0] - least <= rule.OPEN]

    def cross(i: int, j: int) -> tuple[float, float]:
        if not 0 <= j < len(rows):
            width = rows[i][1] if j < 0 else math.inf
        else:
            a, b = rows[i][0] - least, rows[j][0] - least
            width = float(np.interp(rule.OPEN, [a, b], [rows[i][1], rows[j][1]]))
        return width, width / rows[i][2]

    low, high = cross(inside[0], inside[0] - 1), cross(inside[-1], inside[-1] + 1)
    return {"width_low": low[0], "width_low_gaps": low[1], "width_high": high[0], "width_high_gaps": high[1]}


def monotone_tail(misfit: float, m: int) -> float:
    """Tail of the chi-bar-square law: levels as the coefficients of t (t + 1) ... (t + m - 1) / m!."""
    share = np.poly(-np.arange(m))[::-1] / math.factorial(m)  # of t^l
    tails = [share[level] * stats.chi2.sf(misfit, m - level) for level in range(1, m)]
    return float(sum(tails) + share[m] * (misfit <= 0))


def linear_plateau(y: np.ndarray, error: np.ndarray) -> tuple[int, float]:
    """Scales over which the linear metric is flat, and the upper limit of what it rises there."""
    length = 1
    while length < len(y):
        part, w = y[: length + 1], error[: length + 1] ** -2
        misfit = (w * (part - np.average(part, weights=w)) ** 2).sum()
        risen = part[-1] - part[0] >= 1.645 * math.hypot(error[0], error[length])
        if stats.chi2.sf(misfit, length) <= 0.05 or risen:
            break
        length += 1
    return length, y[length - 1] - y[0] + 1.645 * math.hypot(error[0], error[length - 1])


def of_metric(case: Any, m: int) -> dict[str, Any]:
    """Evidence of the metric itself: its plateau, and whether it takes off."""
    level, plateau = min(case.chance + rule.BARELY, 1), 0
    for rate, n, se in zip(case.rate, case.n, case.se, strict=True):
        k = round(rate * n)
        inside = stats.binom.sf(k - 1, n, level) if case.counted else stats.norm.sf(rate, level, max(se, shapes.FLOOR))
        if inside <= 0.05:
            break
        plateau += 1
    top, n = case.rate[-1], case.n[-1]
    k = round(top * n)
    if not case.counted:
        low = top - 1.96 * case.se[-1]
    else:
        low = stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0
    return {"plateau": plateau, "top_low": low}


def of_companion(case: Any, e: dict[str, Any]) -> dict[str, Any]:
    """Evidence that needs both metrics."""
    last = max(e["plateau"] - 1, 0)
    error = e["error"]
    out = {
        "p_flat_metric": flat_metric(case, e["scatter"]),
        "progress": case.linear[last] - case.linear[0],
        "progress_se": math.hypot(error[last], error[0]),
        "p_link": math.nan,
        "p_link_low": math.nan,
        "informative": 0,
    }
    if case.paired:
        chi2, freedom, predicted, spare = best_link(case)
        hits, misses = case.n * predicted, case.n * (1 - predicted)
        out["p_link"] = stats.chi2.sf(chi2, freedom) if freedom > 0 else 1.0
        out["p_link_low"] = stats.chi2.sf(chi2 + spare, freedom) if freedom > 0 else 1.0
        out["informative"] = int(((hits > rule.INFORMATIVE) & (misses > rule.INFORMATIVE)).sum())
        out["deviance"] = chi2
    return out


def flat_metric(case: Any, scatter: float) -> float:
    """P-value of the metric's homogeneity, the models' scatter carried over by the power law through both means."""
    n, rate = case.n, case.rate
    w = n if case.counted else np.maximum(case.se, shapes.FLOOR) ** -2.0
    pooled, mean = np.average(rate, weights=w), case.linear.mean()
    power = math.log(min(max(pooled, 1e-9), 1 - 1e-9)) / math.log(min(max(mean, 1e-9), 1 - 1e-9))
    between = (power * (1 - mean) * scatter * pooled) ** 2
    if not case.counted:
        return float(stats.chi2.sf(((rate - pooled) ** 2 / (1 / w + between)).sum(), len(n) - 1))
    if pooled in (0, 1):
        return 1.0
    k = rate * n
    deviance = 2 * (special.xlogy(k, rate / pooled) + special.xlogy(n - k, (1 - rate) / (1 - pooled)))
    return float(stats.chi2.sf((deviance / (1 + n * between / (pooled * (1 - pooled)))).sum(), len(n) - 1))


def best_link(case: Any) -> tuple[float, int, np.ndarray, float]:
    """Misfit, degrees of freedom and predictions of the best link; and by how much the rule's own search may miss it.

    The rule's last points stand 1 / 8192 of the parameter's range apart, so that the best of them is within half of that.
    """
    p, known = np.clip(case.linear, 1e-6, 1 - 1e-6), not math.isnan(case.length)
    chance = float(case.chance)

    def misfit(q: np.ndarray) -> Any:
        q = chance + (1 - chance) * q
        model = links.MODEL * np.minimum(1, 4 * q * (1 - q) + 0.1)
        if not case.counted:
            return ((case.rate - q) ** 2 / (np.maximum(case.se, shapes.FLOOR) ** 2 + model**2)).sum(-1)
        q, k = np.clip(q, 1e-12, 1 - 1e-12), case.n * case.rate
        of = 2 * (special.xlogy(k, case.rate / q) + special.xlogy(case.n - k, (1 - case.rate) / (1 - q)))
        return (of / (1 + case.n * model**2 / np.maximum(q * (1 - q), model))).sum(-1)

    if not case.tokens:
        best = probit(case, p)
        chi2, spent, spare = misfit(best), 2, 1e-3
    else:
        chi2, spent, spare, best = math.inf, 1 + (not known), 0.0, p
        points = np.linspace(0, 1, POLISHED)
        for length in [float(case.length)] if known else links.LENGTHS:
            for q_of in families(p, length):
                values = misfit(q_of(points[:, None]))
                i = int(values.argmin())
                bounds = points[max(i - 1, 0)], points[min(i + 1, POLISHED - 1)]
                polished = optimize.minimize_scalar(
                    lambda t, f=q_of: misfit(f(t)), bounds=bounds, method="bounded", options={"xatol": 1e-9}
                )
                t, value = min((polished.x, polished.fun), (points[i], values[i]), key=lambda pair: pair[1])
                if value < chi2:
                    near = (misfit(q_of(min(max(t + step / 16384, 0), 1))) - value for step in (-1, 1))
                    chi2, best, spare = value, q_of(t), max(near)
    predicted = chance + (1 - chance) * best
    return chi2, int((case.n * predicted > 1).sum()) - spent, predicted, spare


def probit(case: Any, p: np.ndarray) -> np.ndarray:
    """q of the most likely probit line, b >= 0."""
    z, k = special.ndtri(p), case.rate * case.n

    def of(theta: np.ndarray) -> np.ndarray:
        return special.ndtr(theta[0] + theta[1] * z)

    def lost(theta: np.ndarray) -> float:
        q = np.clip(case.chance + (1 - case.chance) * of(theta), 1e-12, 1 - 1e-12)
        return float(-(k * np.log(q) + (case.n - k) * np.log1p(-q)).sum())

    start, bounds = [0.0, 1.0], [(None, None), (0, None)]
    return of(optimize.minimize(lost, start, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14}).x)


def families(p: np.ndarray, length: float) -> Iterator[Callable[[Any], np.ndarray]]:
    """q of the parameter's place t in its range: kappa from 0.3 to 2 L in equal ratios, r and rho from 0 to 0.999."""
    yield lambda t: p ** np.exp((1 - t) * math.log(0.3) + t * math.log(2 * length))
    yield lambda t: p * (p + 0.999 * t * (1 - p)) ** (length - 1)

    def beta_binomial(t: Any) -> np.ndarray:
        rho, q = 0.999 * t, 1.0
        for j in range(int(length)):
            q = q * (p * (1 - rho) + j * rho) / (1 - rho + j * rho)
        return np.asarray(q)

    yield beta_binomial


def of_rule(case: Any, m: int, e: dict[str, Any]) -> Iterator[str]:
    """The steps that apply, in the rule's order; the first one decides."""
    few = m < rule.SCALES_JUMP
    if case.bimodal:
        yield "seeds"
    if e["p_flat"] > rule.ALPHA and (not case.paired or e["p_flat_metric"] > rule.ALPHA):
        yield "flat" if 2 * math.sqrt(2) * e["median_se"] < rule.DETECTABLE else "flat unresolved"
    if e["p_monotone"] < rule.ALPHA and e["drop"] > rule.BARELY:
        if not math.isnan(case.scatter) or e["hump"] > rule.CLEAR_SLOPE:
            yield "not monotone"
    high = e["jump"] >= shapes.JUMP and e["jump"] > shapes.SHARE * e["range"]
    if high and e["wide_over_narrow"] > rule.CLEAR and e["wide_slope_over_narrow"] > rule.CLEAR_SLOPE:
        if few:
            yield "jump on few scales"
        if e["beside"] < rule.BESIDE:
            yield "jump at the edge"
        yield "jump" if case.paired or case.proper else "jump of one metric"
    step = e["step_over_wide"] <= rule.OPEN or e["step_slope_over_wide"] <= rule.OPEN_SLOPE
    if step and e["range"] > shapes.JUMP:
        if few:
            yield "step not excluded, few scales"
        yield "jump at the edge" if e["beside"] < rule.BESIDE else "step not excluded"
    if not case.paired:
        yield "smooth alone"
    if e["p_link"] < rule.ALPHA:
        yield "link refused" if case.tokens else "link of choices refused"
    floor, top = case.chance + rule.TAKEN_OFF, case.rate[-1]
    if e["plateau"] < 2 or e["top_low"] <= floor:
        yield "never off the ground" if top < floor and top * case.n[-1] < 10 else "no plateau"
    if e["plateau_linear"] >= rule.PLATEAU:
        yield "shared plateau" if e["plateau_rise_high"] < rule.LEVEL else "plateau unresolved"
    rises = e["progress"] > max(rule.PROGRESS, stats.norm.isf(rule.ALPHA) * e["progress_se"])
    yield "metric" if e["informative"] >= 2 and rises else "progress unresolved"
