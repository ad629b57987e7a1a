"""The executor of every Monte Carlo sweep: a grid of cells, chunks of replicates, integer counts summed.

A job is a function of one chunk. Replicate i of a cell draws from `fold_in(key of the cell, i)` or from counters that hold
i, and counts are integers, so the sums are the same whatever the chunk, the number of devices and processes, the order, or
how often the run was broken off. Memory is bound by the chunk; what a host job holds is its own affair.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Key, UInt32

from mirage_jax.errors import InputError
from mirage_jax.progress import track

if TYPE_CHECKING:
    from mirage_jax.parts import Parts

CHUNK = 1 << 14  # replicates
PART = 1 << 28  # tokens that are done before their counts are written
ONE = 1 << 24  # fixed point of a score of 1


class Job(NamedTuple):
    """Cells that one program counts."""

    name: str
    count: Callable[..., Any]  # device: (key, cell, ids [chunk], real [chunk], true ones first) -> uint32 counts
    keys: Key[Array, " cells"]
    cells: Any  # pytree of arrays, [cells, ...]
    n: int  # replicates of each cell
    tokens: int = 1  # of one replicate: what progress goes by
    cost: int = 1  # of a token, against one that is only counted: parts hold fewer of costly ones
    chunk: int = CHUNK  # most replicates at once
    host: bool = False  # count: (key data, cell, n) -> counts of the whole cell, at once and on the host

    @property
    def units(self) -> int:
        """Replicates of a cell, or 1 where a cell is counted at once."""
        return 1 if self.host else self.n


class Range(NamedTuple):
    """Replicates [start, stop) of a job, numbered through its cells: replicate i of cell c is number c units + i."""

    job: int
    start: int
    stop: int


def check(jobs: Sequence[Job]) -> None:
    """Refuse sweeps that have nothing to count, or more than the counters can address."""
    names = [job.name for job in jobs]
    if not jobs or len(set(names)) < len(names):
        raise ValueError(f"a sweep needs jobs of different names, got {names}")
    for job in jobs:
        most = 1 << (62 if job.host else 32)  # counters of replicates are 32 bits wide
        if not 1 <= job.n <= most:
            raise ValueError(f"{job.name}: expected from 1 to 2^{most.bit_length() - 1} replicates a cell, got {job.n}")
        if min(len(job.keys), job.chunk, job.tokens, job.cost) < 1:
            raise ValueError(f"{job.name}: expected cells, a chunk, tokens and a cost of at least 1")


def plan(jobs: Sequence[Job]) -> list[list[Range]]:
    """The parts of a sweep: ranges of about PART tokens together. Depends on the jobs alone, not on who does them."""
    check(jobs)
    parts: list[list[Range]] = [[]]
    room = PART
    for number, job in enumerate(jobs):
        start, total = 0, len(job.keys) * job.units
        while start < total:
            if room < job.tokens * job.cost and parts[-1]:
                parts.append([])
                room = PART
            take = min(total - start, max(room // (job.tokens * job.cost), 1))
            parts[-1].append(Range(number, start, start + take))
            room -= take * job.tokens * job.cost
            start += take
    return parts


def run(
    jobs: Sequence[Job],
    *,
    chunk: int = CHUNK,
    store: "Parts | None" = None,
    shard: tuple[int, int] = (1, 1),
    label: str = "sweep",
) -> dict[str, np.ndarray]:
    """Count every cell of every job: int64 [cells, counts] by the job's name.

    Args:
        jobs: what to count.
        chunk: replicates at once on each device, at most the job's own; changes nothing but memory and time.
        store: where finished parts are written, and found again by a run that goes on; None keeps them in memory. Of several
            processes the first alone is given it, and the first alone gets the counts of parts that were found.
        shard: (i, n): only each n-th part from the i-th on, i from 1. The counts are then of those parts alone.
        label: of the progress bar.

    Raises:
        ValueError: no jobs, two of one name, no replicates or more than 2^32 a cell, a chunk or shard that is none.
    """
    if chunk < 1 or not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"expected a chunk >= 1 and a shard 1 <= i <= n, got {chunk} and {shard[0]}/{shard[1]}")
    parts = plan(jobs)
    mine = range(shard[0] - 1, len(parts), shard[1])
    found = {i: store.read(i, len(parts)) if store else None for i in mine}
    left = _agreed([i for i in mine if found[i] is None], len(parts))
    work = [float(sum((r.stop - r.start) * jobs[r.job].tokens for r in parts[i])) for i in left]
    with jax.enable_x64(False):  # the same numbers whatever the user's flag
        for i in track(left, label, work, unit="tokens"):
            found[i] = _part(jobs, parts[i], chunk)
            if store:
                store.write(i, len(parts), found[i] or {})
    return total(jobs, [part or {} for part in found.values()])


def _agreed(left: list[int], parts: int) -> list[int]:
    """The parts that are left to do, as the first process sees them: it alone reads the store."""
    if jax.process_count() == 1:
        return left
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return np.flatnonzero(broadcast_one_to_all(np.isin(np.arange(parts), left))).tolist()


def merge(jobs: Sequence[Job], store: "Parts") -> dict[str, np.ndarray]:
    """The counts of all parts that shards left in a store.

    Raises:
        InputError: a part is missing, or was made by another config.
    """
    of = len(plan(jobs))
    parts = [store.read(i, of) for i in range(of)]
    missing = [i + 1 for i, part in enumerate(parts) if part is None]
    if missing:
        some = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise InputError(
            f"{store.folder} lacks {len(missing)} of {len(parts)} parts of {store.study} (number {some}); part k is made by "
            "shard ((k - 1) mod n) + 1 of n, with the same flags"
        )
    return total(jobs, [part for part in parts if part is not None])


Counts = dict[tuple[int, int], list[int]]  # (job, cell) -> counts


def total(jobs: Sequence[Job], parts: Sequence[Counts]) -> dict[str, np.ndarray]:
    """Sum the counts of parts, int64 [cells, counts] by the job's name; cells that no part holds are 0."""
    widths = {job: len(counts) for part in parts for (job, _), counts in part.items()}
    sums = {job: np.zeros((len(jobs[job].keys), width), np.int64) for job, width in widths.items()}
    for part in parts:
        for (job, cell), counts in part.items():
            sums[job][cell] += np.asarray(counts, np.int64)
    return {jobs[job].name: counts for job, counts in sums.items()}


def _part(jobs: Sequence[Job], ranges: Sequence[Range], chunk: int) -> Counts:
    """Counts of one part. Steps are queued two deep, so that the host adds while the devices draw."""
    counts: dict[tuple[int, int], np.ndarray] = {}

    def add(job: int, cells: Sequence[int], found: Any) -> None:
        for cell, row in zip(cells, found, strict=False):  # spare devices count nothing
            counts[job, cell] = counts.get((job, cell), 0) + row

    def wide(words: Any) -> np.ndarray:
        low, high = np.moveaxis(np.asarray(words).astype(np.int64), 1, 0)
        return low + (high << 32)

    queue: deque[tuple[int, Sequence[int], Any]] = deque()
    for number, start, stop in ranges:
        job = jobs[number]
        if job.host:
            keys = np.asarray(jax.random.key_data(job.keys))
            for cell in range(start, stop):
                add(number, [cell], job.count(keys[cell], _take(job.cells, cell), job.n)[None])
            continue
        for cells, found in _steps(job, start, stop, min(chunk, job.chunk)):
            queue.append((number, cells, found))
            if len(queue) > 2:
                of, where, words = queue.popleft()
                add(of, where, wide(words))
    for of, where, words in queue:
        add(of, where, wide(words))
    return {where: row.tolist() for where, row in sorted(counts.items())}


def _steps(job: Job, start: int, stop: int, chunk: int) -> Iterator[tuple[list[int], Any]]:
    """Dispatch a range, a run of chunks to every device at a time. Yields the cells counted, and their counts to come."""
    mesh = Mesh(np.array(jax.devices()), "devices")
    program, width = _program(job.count, mesh, chunk), mesh.size
    keys = np.asarray(jax.random.key_data(job.keys))
    cells = jax.tree.map(np.asarray, job.cells)
    share = -(-(stop - start) // (width * chunk)) * chunk
    for group in _batched(_runs(job.n, start, stop, share), width):
        of = [cell for cell, _, _ in group]
        spare = [0] * (width - len(of))
        first = np.array([first for _, first, _ in group] + spare, np.uint32)
        size = np.array([size for _, _, size in group] + spare, np.uint32)
        yield of, program(keys[of + spare], _take(cells, of + spare), first, size)


def _batched(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(items, size)):
        yield batch


def _runs(n: int, start: int, stop: int, most: int) -> Iterator[tuple[int, int, int]]:
    """(cell, first replicate, how many) of runs that make up a range; none spans two cells."""
    while start < stop:
        cell, first = divmod(start, n)
        size = min(most, n - first, stop - start)
        yield cell, first, size
        start += size


def _take(cells: Any, at: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[at], cells)


@cache
def _program(count: Callable[..., Any], mesh: Mesh, chunk: int) -> Callable[..., Any]:
    """Count a run of replicates a device, chunk by chunk; every process gets the counts of all, [devices, 2, counts]."""

    def one(
        key: UInt32[Array, "1 2"], cell: Any, first: UInt32[Array, " 1"], size: UInt32[Array, " 1"]
    ) -> UInt32[Array, "1 2 counts"]:
        typed, own, order = jax.random.wrap_key_data(key[0]), _take(cell, 0), jnp.arange(chunk, dtype=jnp.uint32)

        def add(number: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
            place = number.astype(jnp.uint32) * np.uint32(chunk) + order
            low = sums[0] + count(typed, own, first[0] + place, place < size[0]).astype(jnp.uint32)
            return low, sums[1] + (low < sums[0])  # 64 bits as two words of 32

        zero = jnp.zeros(jax.eval_shape(count, typed, own, order, order < 1).shape, jnp.uint32)
        chunks = (size[0] + np.uint32(chunk - 1)) // np.uint32(chunk)
        return jnp.stack(jax.lax.fori_loop(0, chunks.astype(jnp.int32), add, (zero, zero)))[None]

    split, whole = PartitionSpec("devices"), NamedSharding(mesh, PartitionSpec())
    return jax.jit(jax.shard_map(one, mesh=mesh, in_specs=split, out_specs=split, check_vma=False), out_shardings=whole)


def replicates(function: Callable[..., Array], key: Key[Array, ""], n: int, *data: Any, chunk: int = 64) -> np.ndarray:
    """function(fold_in(key, i), *data) for i = 0..n-1, stacked: null distributions and bootstraps, where sums are not enough.

    Spread over all devices, `chunk` at once on each; adding replicates keeps the earlier ones. Programs are kept by `function`.
    """
    mesh = Mesh(np.array(jax.devices()), "devices")
    ids = np.arange(-(-n // mesh.size) * mesh.size, dtype=np.uint32)
    return np.asarray(_replicates(function, mesh, chunk)(jax.random.key_data(key), ids, data))[:n]


@lru_cache(64)
def _replicates(function: Callable[..., Array], mesh: Mesh, chunk: int) -> Callable[..., Array]:
    def some(words: UInt32[Array, " 2"], ids: UInt32[Array, " ids"], data: Any) -> Array:
        key = jax.random.wrap_key_data(words)
        return jax.lax.map(lambda i: function(jax.random.fold_in(key, i), *data), ids, batch_size=chunk)

    split, same = PartitionSpec("devices"), PartitionSpec()
    mapped = jax.shard_map(some, mesh=mesh, in_specs=(same, split, same), out_specs=split, check_vma=False)
    return jax.jit(mapped, out_shardings=NamedSharding(mesh, same))


def moments(score: Float[Array, " chunk"], real: Bool[Array, " chunk"]) -> UInt32[Array, " 9"]:
    """Integer sums of scores in [0, 128): how many are not NaN, and 16-bit limbs of the sums of q and q^2, q = 2^24 score.

    A float32 score in [1/2, 128) is kept exactly, a smaller one to 2^-25. Sums of at most 2^16 scores fit; `of_moments` puts
    them together.
    """
    there = real & ~jnp.isnan(score)
    q = jnp.rint(jnp.where(there, score, 0.0) * ONE).astype(jnp.uint32)
    high, low, half = q >> 16, q & 0xFFFF, jnp.uint32(0xFFFF)
    squares = (high * high, high * low, low * low)  # q^2 = 2^32 hh + 2^17 hl + ll
    limbs = [there.astype(jnp.uint32), high, low]
    limbs += [limb for square in squares for limb in (square >> 16, square & half)]
    return jnp.stack([limb.sum(dtype=jnp.uint32) for limb in limbs])


def of_moments(counts: np.ndarray) -> tuple[int, int, int]:
    """(n, total, squares) of `moments` summed over chunks, exact: the scores' own are total / ONE and squares / ONE^2."""
    n, high, low, *limbs = (int(count) for count in counts)
    hh, hl, ll = ((limbs[i] << 16) + limbs[i + 1] for i in (0, 2, 4))
    return n, (high << 16) + low, (hh << 32) + (hl << 17) + ll
