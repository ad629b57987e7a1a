"""Parts of sweeps: none is taken for what it is not, none is lost, and two runs never share a folder by accident."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from tiny import cli, parts, refused, tables

from mirage_jax import InputError, files, study, sweep
from scripts import reproduce
from sims import correlated, toy


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 256 tokens: 12 of them hold the 3000 replicates of the tiny study, and two its 3 cells on the host."""
    monkeypatch.setattr(sweep, "PART", 256)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tiny study's table from one run in memory and one part."""
    out = tmp_path_factory.mktemp("unbroken")
    assert cli(tiny, out) == 0
    assert [path.name for path in sorted(out.iterdir())] == [".run.lock", "tables"]
    return tables(out)


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
    refused(capsys, cli(tiny, half), "of: 14 there, ")
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
