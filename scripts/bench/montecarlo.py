"""The Monte Carlo engines against jax.random.bernoulli, numpy and numba, by exact matches and errors counted.

All sides draw 4 scales x 131,072 answers x 32 tokens with independent errors and return how many answers are right and how
many tokens are wrong at each scale; a row is refused where those counts are not what the law says. The engines run as users
run them, through `sweep.run`. Peak memory and the cost per token by size are those of a fresh process for each engine.
"""

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mirage_jax import sweep
from mirage_jax.kernels import threefry
from mirage_jax.progress import echo
from scripts.bench.timing import in_turns
from sims import engines

ENGINES = ("token", "token_fast", "exact_law")
ERROR_RATE = np.array([0.2, 0.1, 0.05, 0.02])  # one a scale
SAMPLES, LENGTH = 131_072, 32
TOKENS = (10**7, 10**8, 10**9, 10**10)
PEAK_AT = 10**9  # tokens, of the process whose memory is reported


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Every row, as it is measured; `quick` has few answers and two repeats."""
    samples = SAMPLES // 64 if quick else SAMPLES
    key = jax.random.key(0)
    peers = {"naive": _naive(key, samples), "numpy": _numpy(samples)}
    try:
        peers |= _numba(samples)
    except ImportError:
        echo("numba is not installed: no row against it")
    ours = {engine: _engine(engine, key, samples) for engine in ENGINES}
    for name, counted in (peers | ours).items():
        _agree(name, counted(), samples)
    seconds = dict(zip(peers | ours, in_turns([*peers.values(), *ours.values()], 2 if quick else 15), strict=True))
    tokens = len(ERROR_RATE) * samples * LENGTH
    for engine in ENGINES:
        alone = _measure(engine, TOKENS[:1]) if quick else _alone(engine, TOKENS)
        for peer in peers:
            yield {
                "engine": engine,
                "against": peer,
                "ratio": seconds[peer] / seconds[engine],
                "tokens_per_s": tokens / seconds[engine],
                "peak_mib": alone["peak_mib"],
                "ns_per_token": alone["ns_per_token"],
                "version": importlib.metadata.version("jax" if peer == "naive" else peer.partition("_")[0]),
            }


def _naive(key: Any, samples: int) -> Callable[[], Any]:
    @jax.jit
    def count(key: Any, error_rate: Any) -> tuple[Any, Any]:
        wrong = jax.random.bernoulli(key, error_rate[:, None, None], (len(ERROR_RATE), samples, LENGTH))
        return (~wrong.any(-1)).sum(-1), wrong.sum((-2, -1))

    error_rate = jnp.asarray(ERROR_RATE, jnp.float32)
    return lambda: jax.block_until_ready(count(key, error_rate))


def _numpy(samples: int) -> Callable[[], Any]:
    rng = np.random.default_rng(0)

    def count() -> tuple[Any, Any]:
        wrong = rng.random((len(ERROR_RATE), samples, LENGTH), dtype=np.float32) < ERROR_RATE[:, None, None]
        return (~wrong.any(-1)).sum(-1), wrong.sum((-2, -1))

    return count


def _numba(samples: int) -> dict[str, Callable[[], Any]]:
    """Loops by hand over all cores, by generator: numba's own, our fast stream word by word, and xorshift64*.

    The last has two shifts and a product where Threefry has twenty rounds, and nothing keeps its streams apart: no generator
    to publish with, but it shows what speed a weaker one would buy.
    """
    for name, value in (("OMP_WAIT_POLICY", "passive"), ("GOMP_SPINCOUNT", "0"), ("KMP_BLOCKTIME", "0")):
        os.environ.setdefault(name, value)  # numba's threads would else spin into the turns of the others
    numba: Any = importlib.import_module("numba")

    rotations = tuple(r for five in range(5) for r in threefry.ROTATIONS[five % 2])
    parity = threefry.PARITY

    @numba.njit(inline="always")
    def words(k0: Any, k1: Any, x0: Any, x1: Any) -> Any:
        schedule = (np.uint32(k0), np.uint32(k1), np.uint32(k0 ^ k1 ^ parity))
        x0, x1 = np.uint32(x0 + k0), np.uint32(x1 + k1)
        for i, r in enumerate(rotations):
            x0 = np.uint32(x0 + x1)
            x1 = np.uint32(np.uint32(x1 << np.uint32(r)) | np.uint32(x1 >> np.uint32(32 - r)))
            x1 = np.uint32(x1 ^ x0)
            if i % 4 == 3:
                five = i // 4 + 1
                x0 = np.uint32(x0 + schedule[five % 3])
                x1 = np.uint32(x1 + schedule[(five + 1) % 3] + np.uint32(five))
        return x0, x1

    @numba.njit(parallel=True)
    def by_threefry(keys: Any, below: Any) -> Any:
        found = np.zeros((2, below.size), np.int64)
        for scale in range(below.size):
            k0, k1, right, errors = keys[scale, 0], keys[scale, 1], 0, 0
            for sample in numba.prange(samples):
                wrong = 0
                for pair in range(LENGTH // 2):
                    a, b = words(k0, k1, np.uint32(pair), np.uint32(sample))
                    wrong += (a < below[scale]) + (b < below[scale])
                right += wrong == 0
                errors += wrong
            found[0, scale], found[1, scale] = right, errors
        return found

    @numba.njit(parallel=True)
    def by_random(error_rate: Any) -> Any:
        found = np.zeros((2, error_rate.size), np.int64)
        for scale in range(error_rate.size):
            right, errors = 0, 0
            for _sample in numba.prange(samples):
                wrong = 0
                for _token in range(LENGTH):
                    wrong += np.random.random() < error_rate[scale]
                right += wrong == 0
                errors += wrong
            found[0, scale], found[1, scale] = right, errors
        return found

    @numba.njit(parallel=True)
    def by_xorshift(below: Any) -> Any:
        found = np.zeros((2, below.size), np.int64)
        for scale in range(below.size):
            right, errors = 0, 0
            for sample in numba.prange(samples):
                state = np.uint64(scale * samples + sample + 1) * np.uint64(0x9E3779B97F4A7C15)
                wrong = 0
                for _pair in range(LENGTH // 2):
                    state ^= state >> np.uint64(12)
                    state ^= state << np.uint64(25)
                    state ^= state >> np.uint64(27)
                    word = state * np.uint64(0x2545F4914F6CDD1D)
                    wrong += ((word >> np.uint64(32)) < below[scale]) + ((word & np.uint64(0xFFFFFFFF)) < below[scale])
                right += wrong == 0
                errors += wrong
            found[0, scale], found[1, scale] = right, errors
        return found

    keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(0), len(ERROR_RATE))))
    below = (ERROR_RATE * 2**32).astype(np.uint32)
    return {
        "numba": lambda: by_random(ERROR_RATE),
        "numba_threefry": lambda: by_threefry(keys, below),
        "numba_xorshift": lambda: by_xorshift(below.astype(np.uint64)),
    }


def _engine(engine: Any, key: Any, samples: int) -> Callable[[], Any]:
    keys = jax.random.split(key, len(ERROR_RATE))
    jobs = [engines.job(engine, "independent", LENGTH, keys, [ERROR_RATE], samples, engine, prefix=False)]
    return lambda: sweep.run(jobs)[engine][:, :2].T


def _agree(name: str, counted: Any, samples: int) -> None:
    """Refuse counts that the law (1 - epsilon)^L, L epsilon gives less than once in 10^8."""
    right, errors = (np.asarray(x, float) for x in counted)
    p = (1 - ERROR_RATE) ** LENGTH
    far = abs(right - samples * p) / np.sqrt(samples * p * (1 - p))
    off = abs(errors - samples * LENGTH * ERROR_RATE) / np.sqrt(samples * LENGTH * ERROR_RATE * (1 - ERROR_RATE))
    assert max(far.max(), off.max()) < 6, f"{name} does not count what it should: {far}, {off} standard errors off"  # noqa: S101


def _alone(engine: str, sizes: tuple[int, ...]) -> dict[str, Any]:
    command = [sys.executable, "-m", "scripts.bench.montecarlo", engine, *map(str, sizes)]
    home = Path(__file__).resolve().parents[2]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=home).stdout)


def _measure(engine: str, sizes: Sequence[int]) -> dict[str, Any]:
    """Nanoseconds per token by size, compiled before; and the peak resident memory after PEAK_AT tokens."""
    key, cost, peak = jax.random.key(0), {}, 0.0
    _engine(engine, key, SAMPLES)()
    for tokens in sizes:
        count = _engine(engine, key, tokens // LENGTH // len(ERROR_RATE))
        begun = time.perf_counter()
        count()
        cost[f"{tokens:.0e}"] = (time.perf_counter() - begun) / tokens * 1e9
        if tokens <= PEAK_AT:
            peak = _peak_mib()
    return {"ns_per_token": cost, "peak_mib": peak}


def _peak_mib() -> float:
    """Peak resident memory of this process; getrusage's would include that of the process which started it."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], [int(size) for size in sys.argv[2:]])))  # noqa: T201
