"""What a claim is, what a test of it gives, and the record that goes into the ledger."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import pandas as pd

from mirage_jax.estimators import clopper_pearson

Status = Literal["holds", "fails", "mixed", "not testable here"]
FIELDS = ("id", "claim", "where", "test", "value", "low", "high", "n", "status", "data", "figure", "ours")


class Found(NamedTuple):
    """What a test gave; `note` is added to the words of the test."""

    status: Status
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""


class Claim(NamedTuple):
    """A claim's words, the tables it needs, and its measurement (None: no data at hand can decide)."""

    id: str
    claim: str
    where: str
    test: str
    needs: tuple[str, ...] = ()
    measure: Callable[..., Found] | None = None
    data: str | None = None
    figure: str | None = None
    ours: bool = False


def share(k: int, n: int, status: Status, note: str = "") -> Found:
    """A share k of n with its 95% Clopper-Pearson interval."""
    low, high = clopper_pearson(k, n)
    return Found(status, k / n, float(low), float(high), n, note)


def record(claim: Claim, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """A claim's record of FIELDS; where a table it needs is absent it is not testable here."""
    absent = [name for name in claim.needs if name not in tables]
    if absent or claim.measure is None:
        return untested(claim, f"Not run: {', '.join(absent)} absent, see what was skipped." if absent else "")
    return _told(claim, claim.measure(*(tables[name] for name in claim.needs)))


def untested(claim: Claim, why: str) -> dict[str, Any]:
    """The record of a claim that was not measured."""
    return _told(claim, Found("not testable here", note=why))


def _told(claim: Claim, found: Found) -> dict[str, Any]:
    words = {name: getattr(claim, name) for name in ("id", "claim", "where", "data", "figure", "ours")}
    numbers: dict[str, Any] = {name: getattr(found, name) for name in ("value", "low", "high")}
    numbers = {k: v if v is not None and math.isfinite(v) else None for k, v in numbers.items()}
    numbers |= {"n": found.n, "status": found.status if numbers["value"] is not None else "not testable here"}
    told = words | numbers | {"test": f"{claim.test} {found.note}".strip()}
    return {field: told[field] for field in FIELDS}
