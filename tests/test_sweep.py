"""Sweeps: the same counts from any chunk, device, shard or order, and no part taken for what it is not."""

import errno
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from mirage_jax import InputError, errors, files, study, sweep
from scripts import reproduce
from sims import correlated, engines, toy

KEYS = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(np.arange(3))


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 256 tokens: 12 of them hold the 3000 replicates of the tiny study, and two its 3 cells on the host."""
    monkeypatch.setattr(sweep, "PART", 256)


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


# --- parts that are not what they seem ---


@pytest.fixture
def half(many, tmp_path: Path) -> Path:
    """A run folder in which every other part is done."""
    out = tmp_path / "half"
    assert cli(tiny, out, "--shard", "1/2") == 0
    return out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", 1], "seed: 0 there, 1 here"),
        (["--n", 999], "n: 1000 there, 999 here"),
        (["--rate", 0.25], "rate: 0.5 there, 0.25 here"),
    ],
)
def test_parts_of_another_config_are_refused_and_kept(half, capsys, flags, message):
    capsys.readouterr()
    before = parts(half)
    for more in ([], ["--shard", "1/2"], ["--merge", half]):
        code = cli(tiny, half, *flags, *more)
        refused(capsys, code, "tiny-000000.parquet is a part of another run", message, "merge or delete")
    assert parts(half) == before and tables(half) == {}


def test_parts_of_another_source_version_or_generator_are_refused_and_kept(half, monkeypatch, capsys):
    capsys.readouterr()
    before, provenance = parts(half), study.provenance

    def other(change):
        return lambda *given: change(provenance(*given))

    for change, message in (
        (lambda about: about | {"reuse": about["reuse"] | {"source_hash": "f" * 16}}, f"here{''}"),
        (lambda about: about | {"reuse": about["reuse"] | {"version": "9.9.9"}}, "there, 9.9.9 here"),
        (lambda about: about | {"versions": about["versions"] | {"jax": "0.8.0"}}, "there, 0.8.0 here"),
        (lambda about: about | {"prng": about["prng"] | {"implementation": "rbg"}}, "there, rbg here"),
    ):
        monkeypatch.setattr(study, "provenance", other(change))
        refused(capsys, cli(tiny, half), message)
    monkeypatch.setattr(study, "provenance", provenance)
    monkeypatch.setattr(sweep, "PART", 300)
    refused(capsys, cli(tiny, half), "part 0 of 14 there, 0 of ")
    assert parts(half) == before


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut": content[:-40], "text": b"hello", "flip": _flip(content, len(content) // 3)}[how]
    )


def _flip(content: bytes, at: int, bits: int = 0xFF) -> bytes:
    return content[:at] + bytes([content[at] ^ bits]) + content[at + 1 :]


@pytest.mark.parametrize("how", ["empty", "cut", "text", "flip"])
def test_a_damaged_part_is_computed_again_with_one_line(half, unbroken, capsys, how):
    capsys.readouterr()
    path = half / "parts" / "tiny-000002.parquet"
    whole = path.read_bytes()
    damage(path, how)
    assert cli(tiny, half, "--shard", "1/2") == 0
    assert capsys.readouterr().err == f"{path} is damaged: it is computed again\n"
    assert path.read_bytes() == whole
    assert cli(tiny, half) == 0
    assert tables(half) == unbroken


def test_no_flipped_byte_of_a_part_changes_its_counts(tmp_path, capsys):
    config = tiny.Config(cells=1, drawn=False)
    assert cli(tiny, tmp_path, "--cells", 1, "--no-drawn", "--shard", "1/2") == 0
    kept = study.store(tiny, study.provenance(tiny, config, {}), tmp_path)
    path, wanted, detected = kept.path(0), kept.read(0, 1), 0
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(_flip(content, at, (0xFF, 1 << at % 8)[at // 8 % 2]))
        found = kept.read(0, 1)
        assert found in (None, wanted)
        detected += found is None
    assert detected > len(content) / 2  # what is left says nothing: sizes, statistics and names in the footer
    assert capsys.readouterr().err.count("is computed again\n") == detected


def test_a_folder_without_parts_or_with_some_missing_is_not_merged(half, tmp_path, capsys):
    capsys.readouterr()
    before = parts(half)
    missing = "lacks 7 of 14 parts of tiny (number 2, 4, 6, 8, 10, 12, 14)"
    refused(capsys, cli(tiny, half, "--merge", half), str(half / "parts"), missing, "shard ((k - 1) mod n) + 1 of n")
    assert parts(half) == before
    other = tmp_path / "other"
    refused(
        capsys, cli(tiny, other, "--merge", other), f"--merge: expected a folder with the parts of shards, got {other}"
    )
    assert not other.exists()
    (other / "parts").mkdir(parents=True)
    missing = "lacks 14 of 14 parts of tiny (number 1, 2, 3, 4, 5, 6, 7, 8, ...)"
    refused(capsys, cli(tiny, other, "--merge", other), missing)


def test_leftovers_of_killed_runs_go_and_other_parts_stay(half, many, tmp_path):
    folder = half / "parts"
    others = {"other-000000.parquet": b"x", "tiny-more-000000.parquet": b"x", "tiny-000000.parquet.txt": b"x"}
    for name, content in {**others, ".tiny-000003.parquet.abc.tmp": b"half"}.items():
        (folder / name).write_bytes(content)
    # shards of another seed, which this run never reads: 14 parts are made here, 25 there
    assert cli(tiny, tmp_path, "--n", 2000, "--shard", "25/25") == 0
    (late,) = (tmp_path / "parts").iterdir()
    others[late.name] = late.read_bytes()
    (folder / late.name).write_bytes(late.read_bytes())
    assert cli(tiny, half) == 0
    assert parts(half) == others


def test_a_table_that_is_there_makes_its_own_parts_superfluous(half, unbroken, tmp_path):
    left = parts(half)
    assert cli(tiny, half) == 0
    (half / "parts").mkdir()
    for name, content in left.items():  # as if killed between the table and the end
        (half / "parts" / name).write_bytes(content)
    study.discard(tiny, tiny.Config(seed=1), half)
    assert parts(half) == left
    study.discard(tiny, tiny.Config(), half)
    assert not (half / "parts").exists() and tables(half) == unbroken


def test_reproduce_discards_them_too(half, monkeypatch):
    left = parts(half)
    assert cli(tiny, half) == 0
    (half / "parts").mkdir()
    for name, content in left.items():
        (half / "parts" / name).write_bytes(content)
    told = reproduce._study("tiny", reproduce.Options(out=half))
    assert told["status"] == "reused" and not (half / "parts").exists()


# --- bad input and bad disks ---

BAD = [
    (tiny, ["--n", 0], "expected from 1 to 2^32 replicates a cell, got 0"),
    (tiny, ["--n", (1 << 32) + 1], "expected from 1 to 2^32 replicates a cell, got 4294967297"),
    (tiny, ["--n", 1 << 63, "--no-drawn"], "expected from 1 to 2^62 replicates a cell"),
    (tiny, ["--cells", 0], "expected cells"),
    (tiny, ["--rate", 1.5], "rate must lie in [0, 1], got 1.5"),
    (tiny, ["--rate", "nan"], "expected finite numbers, got Config(seed=0, n=1000, cells=3, rate=nan"),
    (tiny, ["--seed", -1], "--seed: expected a whole number in [0, 2^32), got -1"),
    (tiny, ["--chunk", 0], "--chunk: expected a number of replicates, at least 1, got 0"),
    (tiny, ["--chunk", "many"], "--chunk"),
    (tiny, ["--shard", "0/2"], "--shard: expected i/n with 1 <= i <= n, got '0/2'"),
    (tiny, ["--shard", "3/2"], "--shard: expected i/n with 1 <= i <= n, got '3/2'"),
    (tiny, ["--shard", "x"], "--shard: expected i/n with 1 <= i <= n, got 'x'"),
    (tiny, ["--shard", "1"], "--shard: expected i/n with 1 <= i <= n, got '1'"),
    (tiny, ["--shard", "1/2", "--merge", "."], "--merge makes the table of all shards"),
    (tiny, ["--distributed", "nonsense"], "--distributed: expected auto, or i/n@HOST:PORT with i < n, got 'nonsense'"),
    (tiny, ["--distributed", "2/2@localhost:1"], "with i < n, got '2/2@localhost:1'"),
    (tiny, ["--distributed", "0/2@localhost:99999"], "with i < n, got '0/2@localhost:99999'"),
    (tiny, ["--distributed", "auto"], "--distributed auto: "),
    (toy, ["--samples", 0], "samples >= 100"),
    (toy, ["--samples", 5_000_000_000], "expected from 1 to 2^32 replicates a cell, got 5000000000"),
    (toy, ["--lengths", 0], "lengths >= 1"),
    (correlated, ["--samples", 0], "samples >= 1"),
    (correlated, ["--lengths", 0], "length must be >= 1, got 0"),
    (correlated, ["--correlations", 1.5], "correlation must lie in [-1, 1], got 1.5"),
    (correlated, ["--after", 1.5], "after must lie in [0, 1], got 1.5"),
    (correlated, ["--engine", "guess"], "--engine"),
]


@pytest.mark.parametrize(("module", "flags", "message"), BAD, ids=lambda value: getattr(value, "NAME", None))
def test_bad_input_is_one_line_and_touches_no_part(module, flags, message, tmp_path, capsys):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / f"{module.NAME}-000000.parquet").write_bytes(b"as it was")
    refused(capsys, cli(module, tmp_path, *flags), message)
    assert parts(tmp_path) == {f"{module.NAME}-000000.parquet": b"as it was"} and tables(tmp_path) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"chunk": 0}, "a chunk >= 1"),
        ({"shard": (0, 2)}, "a shard 1 <= i <= n"),
        ({"shard": (3, 2)}, "a shard 1 <= i <= n"),
    ],
)
def test_bad_arguments_of_run_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        sweep.run(tiny.jobs(tiny.Config()), **given)


def test_a_sweep_without_jobs_or_with_two_of_one_name_is_refused():
    (job, _) = tiny.jobs(tiny.Config())
    for jobs in ([], [job, job]):
        with pytest.raises(ValueError, match="jobs of different names"):
            sweep.run(jobs)


def test_a_bug_while_counting_keeps_its_traceback(monkeypatch, tmp_path):
    def broken(*given):
        raise ValueError("ours")

    monkeypatch.setattr(tiny, "whole", broken)
    with pytest.raises(ValueError, match="ours") as found:
        cli(tiny, tmp_path)
    assert not isinstance(found.value, InputError)


@pytest.mark.parametrize("site", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_full_disk_keeps_the_parts_that_are_there(half, unbroken, monkeypatch, capsys, site, number):
    capsys.readouterr()
    before, calls, real = parts(half), [], getattr(os, site)

    def fail(*given):
        calls.append(given)
        if len(calls) > 3:
            raise OSError(number, os.strerror(number))
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(os, site, fail)
        refused(capsys, cli(tiny, half), os.strerror(number))
    after = parts(half)
    assert before.items() < after.items() and len(after) == len(before) + 3
    assert cli(tiny, half) == 0
    assert tables(half) == unbroken


@pytest.mark.parametrize(
    "where", ["/proc/none", "a file", "a file/below", "a file for parts", "a link", "a link for the lock"]
)
def test_a_folder_that_cannot_be_written_is_one_line(where, tmp_path, capsys):
    out = tmp_path / "out"
    if where.startswith("a link"):
        out.mkdir()
        (out / ("parts" if where == "a link" else ".run.lock")).symlink_to(tmp_path / "elsewhere")
    elif where == "a file for parts":
        out.mkdir()
        (out / "parts").write_bytes(b"")
    elif where.startswith("a file"):
        out.write_bytes(b"")
    code = cli(tiny, Path(where) if where.startswith("/") else out / "below" if "below" in where else out)
    refused(capsys, code)
    assert not (tmp_path / "elsewhere").exists()


# --- two runs in one folder ---


def test_a_folder_in_use_is_refused_at_once(half, unbroken, capsys):
    capsys.readouterr()
    who = f"{half} is in use by process {os.getpid()} on "
    with files.lock(half / ".run.lock"):
        for flags in ([], ["--shard", "2/2"], ["--merge", half]):
            begun = time.monotonic()
            code = cli(tiny, half, *flags)
            assert time.monotonic() - begun < 1
            refused(capsys, code, who, "wait for it, or choose another folder")
        assert reproduce.main(["--out", str(half)]) == 2
        assert who in capsys.readouterr().err
    assert cli(tiny, half) == 0
    assert tables(half) == unbroken


def test_shards_may_run_together_but_not_twice_and_nothing_merges_meanwhile(half, unbroken, capsys):
    with study.locked(half, "tiny", 1, 2):
        assert cli(tiny, half, "--shard", "2/2") == 0
        capsys.readouterr()
        refused(capsys, cli(tiny, half, "--shard", "1/2"), f"in use by process {os.getpid()} on ")
        for flags in ([], ["--merge", half]):
            refused(
                capsys, cli(tiny, half, *flags), f"shards of a sweep, the last to begin being process {os.getpid()} on "
            )
    assert cli(tiny, half, "--merge", half) == 0
    assert tables(half) == unbroken


RACE = """
import os, sys
from pathlib import Path
from mirage_jax import files
from mirage_jax.errors import InputError

def one(path, start, told, name, leave):
    os.read(start, 1)
    try:
        with files.lock(path):
            os.write(name, b"%d;" % os.getpid())
            os.read(leave, 1)
    except InputError as error:
        os.write(told, str(error).encode() + b";")
    os._exit(0)

for race in range(int(sys.argv[2])):
    path = Path(sys.argv[1]) / f"{race % 5}" / "lock"  # some are there already, with an older name in them
    (start, go), (told, tell), (named, name), (leave, end) = (os.pipe() for _ in range(4))
    children = [os.fork() or one(path, start, tell, name, leave) for _ in range(4)]
    os.write(go, b"xxxx")
    refused = b""
    while refused.count(b";") < 3:
        refused += os.read(told, 1 << 16)
    winners = os.read(named, 1 << 16).decode().rstrip(";").split(";")
    if race % 2:
        os.kill(int(winners[0]), 9)  # its lock is free at once
    os.write(end, b"xxxx")
    for child in children:
        os.waitpid(child, 0)
    assert len(winners) == 1 and refused.count(b"process %s on " % winners[0].encode()) == 3, (winners, refused)
    with files.lock(path):
        pass
    for pipe in (start, go, told, tell, named, name, leave, end):
        os.close(pipe)
"""


def test_races_for_a_folder_have_one_winner_whom_the_others_name(tmp_path, count):
    done = subprocess.run(
        [sys.executable, "-c", RACE, tmp_path, str(count(200))], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
