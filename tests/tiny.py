"""The smallest sweep that has all there is: cells that differ, scores that are missing, and a job of the host.

`python tiny.py PART [flags of a study]` runs it in parts of PART tokens. Below it, what the tests of sweeps look at.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mirage_jax import errors, study, sweep

NAME = "tiny"
DATA = ()


@dataclass(frozen=True)
class Config:
    seed: int = 0
    n: int = 1000
    cells: int = 3
    rate: float = 0.5
    drawn: bool = True  # on devices too, not on the host alone


PRESETS = {"quick": Config(), "full": Config()}


def draw(key, cell, ids, real):
    """A score, which is missing below a tenth of the cell's rate."""
    uniform = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(ids)
    return sweep.moments(jnp.where(uniform < cell / 10, jnp.nan, uniform + (uniform < cell)), real)


def whole(key, cell, n):
    """Successes, and nothing."""
    return np.array([np.random.Generator(np.random.Philox(key=key.astype(np.uint64))).binomial(n, cell), 0])


def jobs(config: Config) -> list[sweep.Job]:
    if not 0 <= config.rate <= 1:
        raise ValueError(f"rate must lie in [0, 1], got {config.rate}")
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(config.seed), i))(np.arange(config.cells))
    rates = config.rate * np.arange(1, config.cells + 1) / config.cells
    drawn = sweep.Job("drawn", draw, keys, rates.astype(np.float32), config.n, chunk=1 << 16)
    law = sweep.Job("law", whole, keys, rates, config.n, tokens=100, host=True)
    return [drawn, law] if config.drawn else [law]


def rows(config: Config, counts: Mapping[str, np.ndarray]) -> study.Output:
    found = []
    for job, cells in counts.items():
        for cell, counted in enumerate(cells):
            n, total = sweep.of_moments(counted)[:2] if job == "drawn" else (config.n, int(counted[0]) * sweep.ONE)
            score = {"score": total / sweep.ONE / n, "n": n, "missing": config.n - n} if n else {"n": 0}
            found.append({"source": "simulated", "model": str(cell), "task": job, "metric": "exact_match", **score})
    return study.Output(found)


def cli(module, out: Path, *flags: object) -> int:
    return errors.run(lambda: study._main(module, ["--out", str(out), "--quiet", *map(str, flags)]))


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "tables").glob("*.parquet")}


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "parts").glob("*"))}


def refused(capsys, code: int, *said: str) -> None:
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("error: ")
    for words in said:
        assert words in line


if __name__ == "__main__":
    sweep.PART = int(sys.argv.pop(1))
    study.main(sys.modules["__main__"])
