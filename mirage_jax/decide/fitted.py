"""Curve models fitted beside a verdict, on request: evidence that decides nothing.

Each named model adds its parameters, log likelihood, AIC, BIC, and the absolute error at the largest scale when it is fitted
to the others. `profile` adds 95% profile intervals of a transition's place and width (SIG) and of an onset (HINGE),
`bootstrap` that of the emergence score.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mirage_jax import fits
from mirage_jax.decide.curves import Curves
from mirage_jax.emergence import score_interval
from mirage_jax.errors import InputError

PROFILES = {"SIG": ("centre", "width"), "HINGE": ("m",)}
EXTRAS = ("profile", "bootstrap")


def fitted(found: Curves, wanted: Sequence[str]) -> pd.DataFrame:
    """Columns MODEL_parameter, MODEL_aic and so on for every curve, in units of its score from 0 (worst) to 1 (best)."""
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    models = [name for name in wanted if name not in EXTRAS]
    unknown = [name for name in models if name not in fits.MODELS]
    if unknown:
        raise InputError(f"fits: expected {', '.join([*fits.MODELS, *EXTRAS])}, got {', '.join(unknown)}")
    out: dict[str, Any] = {}
    counted = np.array([fact.counted for fact in found.facts])
    for name in models:
        for of, data in _by_likelihood(found, counted):
            for column, values in _columns(name, found, of, data, "profile" in wanted).items():
                out.setdefault(f"{name}_{column}", np.full(len(counted), np.nan))[of] = values
    if "bootstrap" in wanted:
        for of, data in _by_likelihood(found, counted):
            given = {"n": data["n"]} if "n" in data else {"se": data["se"]}
            interval = score_interval(_scores(found)[of], **given)
            for column, values in (("emergence_low", interval.low), ("emergence_high", interval.high)):
                out.setdefault(column, np.full(len(counted), np.nan))[of] = values
    return pd.DataFrame(out)


def _scores(found: Curves) -> np.ndarray:
    real = np.arange(found.x.shape[1]) < found.size[:, None]
    return np.where(real, found.score, np.nan)


def _by_likelihood(found: Curves, counted: np.ndarray) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """The curves of counts with n, and the others with their standard errors; a curve without either is left out."""
    y = _scores(found)
    n, se = np.where(np.isnan(y), 1, found.n), np.where(np.isnan(y), 1, found.se)
    of_counts = counted & (n > 0).all(1)
    of_errors = ~counted & ~np.isnan(se).any(1)
    parts = [
        (np.flatnonzero(of_counts), {"n": n[of_counts], "likelihood": "binomial"}),
        (np.flatnonzero(of_errors), {"se": np.maximum(se[of_errors], 1e-6), "likelihood": "gaussian"}),
    ]
    return [(of, data) for of, data in parts if len(of)]


def _columns(name: str, found: Curves, of: np.ndarray, data: dict[str, Any], profiles: bool) -> dict[str, np.ndarray]:
    x, y = found.x[of], _scores(found)[of]
    x = np.where(np.isnan(y), np.nanmax(np.where(np.isnan(y), np.nan, x), axis=1)[:, None], x)
    fit = fits.fit(name, x, y, **data)
    names = fits.MODELS[name].parameters
    out = {parameter: fit.params[:, i] for i, parameter in enumerate(names)}
    out |= {field: getattr(fit, field) for field in ("log_likelihood", "aic", "bic", "converged", "at_bound")}
    held = fits.leave_largest_out(name, x, y, **data)
    out["held_out_error"] = np.nanmax(np.where(np.isnan(held.absolute_error), -1, held.absolute_error), axis=1)
    out["held_out_error"] = np.where(out["held_out_error"] < 0, np.nan, out["held_out_error"])
    for parameter in PROFILES.get(name, ()) if profiles else ():
        interval = fits.profile(name, x, y, parameter, **data)
        out |= {f"{parameter}_low": interval.low, f"{parameter}_high": interval.high}
    return out
