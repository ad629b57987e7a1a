"""Sweeps: the same counts from any chunk, part, shard or order, and sums that are exact."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tiny import cli, parts, tables

from mirage_jax import study, sweep
from sims import engines

KEYS = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(np.arange(3))


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 256 tokens: 12 of them hold the 3000 replicates of the tiny study, and two its 3 cells on the host."""
    monkeypatch.setattr(sweep, "PART", 256)


# --- what is counted ---


SIZES = st.integers(1, 40)
JOBS = st.lists(st.tuples(SIZES, SIZES, SIZES, st.integers(1, 5), st.booleans()), min_size=1, max_size=5)


@given(JOBS, st.integers(1, 500), st.integers(1, 9))
def test_a_plan_holds_every_replicate_once_in_parts_that_are_not_too_large(given, size, shards):
    jobs = [
        sweep.Job(str(i), len, np.zeros(cells), None, n, tokens, cost, host=host)
        for i, (cells, n, tokens, cost, host) in enumerate(given)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "PART", size)
        parts = sweep.plan(jobs)
    seen = [np.zeros(len(job.keys) * job.units, int) for job in jobs]
    for part in parts:
        work = [(r.stop - r.start) * jobs[r.job].tokens * jobs[r.job].cost for r in part]
        assert part and min(work) > 0
        assert sum(work) <= size or (len(part) == 1 and part[0].stop - part[0].start == 1)
        for r in part:
            seen[r.job][r.start : r.stop] += 1
    assert all((times == 1).all() for times in seen)
    shared = [i for k in range(1, shards + 1) for i in range(k - 1, len(parts), shards)]
    assert sorted(shared) == list(range(len(parts)))


@given(st.permutations(range(6)), st.integers(0, 2**32))
def test_counts_of_parts_add_up_in_any_order(order, seed):
    jobs = [sweep.Job(name, len, np.zeros(3), None, 1) for name in "ab"]
    rng = np.random.default_rng(seed)
    parts = [{(p % 2, cell): rng.integers(0, 1 << 55, 4).tolist() for cell in range(p % 4)} for p in range(6)]
    one, two = sweep.total(jobs, parts), sweep.total(jobs, [parts[p] for p in order])
    assert one.keys() == two.keys() == {"a", "b"}
    for name, found in one.items():
        assert found.dtype == np.int64 and (found == two[name]).all()
        wanted = [[sum(p.get(("ab".index(name), c), [0] * 4)[k] for p in parts) for k in range(4)] for c in range(3)]
        assert found.tolist() == wanted


TOP = float(np.nextafter(np.float32(128), np.float32(0)))
ADVERSARIAL = [0.0, 1.0, 2**-25, 3 * 2**-25, 2**-149, 1 - 2**-24, 0.5, 1 / 3, 127.99999, TOP, 64 + 2**-17, float("nan")]
SCORE = st.floats(0, TOP, width=32) | st.sampled_from(ADVERSARIAL)


def exact(scores: list[float]) -> tuple[int, int, int]:
    """Sums of round-half-even(2^24 score), in whole numbers."""
    q = [round(Fraction(score) * sweep.ONE) for score in scores if score == score]
    return len(q), sum(q), sum(x * x for x in q)


_moments = jax.jit(sweep.moments)


@given(st.lists(st.tuples(SCORE, st.booleans()), min_size=16, max_size=16))
def test_moments_are_exact(lanes):
    score, real = np.array([s for s, _ in lanes], np.float32), np.array([r for _, r in lanes])
    found = sweep.of_moments(np.asarray(_moments(score, real)))
    assert found == exact(score[real].tolist())
    for value in score[real]:  # what the fixed point takes from one score
        assert value != value or abs(
            Fraction(round(Fraction(float(value)) * sweep.ONE), sweep.ONE) - Fraction(float(value))
        ) <= (0 if value >= 0.5 else Fraction(1, 1 << 25))


@pytest.mark.parametrize("value", ADVERSARIAL)
def test_moments_of_the_largest_chunk_do_not_overflow(value):
    n = 1 << 16
    score = np.full(n, value, np.float32)
    one = exact([float(np.float32(value))])
    for real in (np.ones(n, bool), np.arange(n) % 3 == 0, np.zeros(n, bool)):
        found = sweep.of_moments(np.asarray(sweep.moments(jnp.asarray(score), jnp.asarray(real))))
        assert found == tuple(int(real.sum()) * x for x in one)


def test_moments_summed_over_chunks_are_those_of_all():
    rng = np.random.default_rng(0)
    score = rng.choice(np.array(ADVERSARIAL, np.float32), 1000)
    chunks = [
        np.asarray(sweep.moments(jnp.asarray(c), jnp.ones(len(c), bool))).astype(np.int64) for c in np.split(score, 8)
    ]
    assert sweep.of_moments(np.sum(chunks, axis=0)) == exact(score.tolist())


# --- the same from any chunk, part and shard ---


def engine_job(engine: str, n: int = 1001) -> sweep.Job:
    return engines.job("cells", "markov", 5, KEYS, (np.array([0.01, 0.3, 0.9]), 0.2), n, engine)


@pytest.mark.parametrize("engine", ["token", "token_fast", "exact_law"])
def test_engines_count_the_same_from_any_chunk_part_and_shard(engine, monkeypatch):
    job = engine_job(engine)
    (wanted,) = sweep.run([job]).values()
    assert (wanted[:, 0] <= job.n).all() and (np.diff(wanted[:, 1]) > 0).all()  # cells differ by their error rate
    for chunk, part in ((100, sweep.PART), (100, 999), (4096, 700), (131072, 5 * 1001)):
        monkeypatch.setattr(sweep, "PART", part)
        (found,) = sweep.run([job], chunk=chunk).values()
        assert (found == wanted).all(), (chunk, part)
    shards = [next(iter(sweep.run([job], shard=(i, 3)).values()), 0) for i in (3, 1, 2)]
    assert (sum(shards) == wanted).all()


def test_a_job_counts_what_its_function_counts_at_once():
    (job, law), counts = tiny.jobs(tiny.Config(n=777)), sweep.run(tiny.jobs(tiny.Config(n=777)), chunk=64)
    for cell in range(3):
        at_once = jax.jit(tiny.draw)(
            job.keys[cell], job.cells[cell], jnp.arange(777, dtype=jnp.uint32), jnp.ones(777, bool)
        )
        assert counts["drawn"][cell].tolist() == np.asarray(at_once).tolist()
        own = tiny.whole(np.asarray(jax.random.key_data(law.keys[cell])), law.cells[cell], 777)
        assert counts["law"][cell].tolist() == own.tolist()


def test_the_64_bit_flag_of_the_user_changes_no_count():
    jobs = [engine_job("token"), *tiny.jobs(tiny.Config())]
    off, rows = sweep.run(jobs), study.run(tiny, tiny.Config()).rows
    with jax.enable_x64(True):
        on = sweep.run([engine_job("token"), *tiny.jobs(tiny.Config())])
        assert study.run(tiny, tiny.Config()).rows == rows
    assert all((off[name] == on[name]).all() for name in off)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tiny study's table from one run in memory and one part."""
    out = tmp_path_factory.mktemp("unbroken")
    assert cli(tiny, out) == 0
    assert [path.name for path in sorted(out.iterdir())] == [".run.lock", "tables"]
    return tables(out)


@pytest.mark.parametrize("chunk", [100, 4096, 131072])
def test_any_chunk_gives_the_same_table(chunk, many, unbroken, tmp_path):
    assert cli(tiny, tmp_path, "--chunk", chunk) == 0
    assert tables(tmp_path) == unbroken


def test_shards_in_any_order_some_twice_merge_to_the_same_table(many, unbroken, tmp_path, capsys):
    for i in (3, 1, 3, 2, 1):
        before = parts(tmp_path)
        assert cli(tiny, tmp_path, "--shard", f"{i}/3") == 0
        assert tables(tmp_path) == {} and before.items() <= parts(tmp_path).items()
        assert (
            f"shard {i}/3 is done; once all are: python -m tests.tiny ... --merge {tmp_path}" in capsys.readouterr().out
        )
    assert len(parts(tmp_path)) == 14
    assert cli(tiny, tmp_path / "elsewhere", "--merge", tmp_path) == 0
    assert tables(tmp_path) == unbroken and not (tmp_path / "parts").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_more_shards_than_parts_leave_the_last_without_work(unbroken, tmp_path):
    for i in (1, 2, 3):
        assert cli(tiny, tmp_path, "--shard", f"{i}/3") == 0
    assert len(parts(tmp_path)) == 1
    assert cli(tiny, tmp_path) == 0  # a plain run takes up what shards left
    assert tables(tmp_path) == unbroken
