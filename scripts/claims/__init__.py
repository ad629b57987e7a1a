"""The ledger: each claim of the paper in our own words, the test that these data allow, and what came out.

A claim's words stand beside the function that measures it from stored tables, one file for each part of the paper. Where a
table is absent, or nothing at hand can decide, the record stands there all the same and says so. `ours` marks errata and
findings that are not the paper's.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from scripts.claims import arithmetic, bigbench, errata, toy, vision
from scripts.claims.record import record

CLAIMS = (*toy.CLAIMS, *arithmetic.CLAIMS, *bigbench.CLAIMS, *vision.CLAIMS, *errata.CLAIMS)


def ledger(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Every claim as a record, in the order of the paper."""
    return [record(claim, tables) for claim in CLAIMS]
