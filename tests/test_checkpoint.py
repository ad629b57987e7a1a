"""Killed and resumed training is the unbroken run; a checkpoint that is damaged or another run's is refused, not read."""

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import tiny

from mirage_jax.errors import InputError
from mirage_jax.parts import MANIFEST, Parts
from train import checkpoint, fit

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("quick_compile")
LABEL = "h-2"
DIE = """
import os, runpy, signal, sys
rename, name = os.rename, sys.argv.pop(1)
def dying(source, target, **options):
    if os.path.basename(target) == name:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target, **options)
os.rename = dying
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def family(quick_compile: None, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The tiny family in a folder of its own: its checkpoints are tied to the source of the package they came from."""
    path = tmp_path_factory.mktemp("package") / "tiny_family.py"
    shutil.copy(ROOT / "tests" / "tiny_family.py", path)
    return load(path)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_family", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def saved_often(monkeypatch: pytest.MonkeyPatch):
    """As the tiny family does for itself in a process of its own."""
    monkeypatch.setattr(fit, "BLOCK", 10)
    monkeypatch.setattr(fit, "SAVE", 0.0)


def written(out: Path) -> dict[str, bytes]:
    """What a run leaves: its tables and outputs, and not the sidecars, which say when."""
    tables = [path for part in ("tables", "results") for path in sorted((out / part).glob("*.parquet"))]
    return {path.name: path.read_bytes() for path in [*tables, *(out / "outputs").glob("*")]}


def everything(out: Path) -> dict[str, bytes]:
    """Every file but the locks, which say who ran last."""
    paths = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


class Stop(Exception):
    """Training is broken off."""


def broken(module: ModuleType, out: Path, saves: int, monkeypatch: pytest.MonkeyPatch, *flags: object) -> Path:
    """Run until so many checkpoints are written; the last of them."""
    save, left = checkpoint.save, [saves]

    def until(*given: Any) -> None:
        save(*given)
        left[0] -= 1
        if not left[0]:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", until)
        with pytest.raises(Stop):
            tiny.study._main(module, ["--out", str(out), "--quiet", *map(str, flags)])
    (path,) = (out / "parts").glob("[!.]*")
    return path


@pytest.fixture(scope="module")
def unbroken(family: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, bytes]]:
    """What a run that nothing stops writes, by its steps."""
    ran: dict[int, dict[str, bytes]] = {}

    def run(steps: int = 60) -> dict[str, bytes]:
        if steps not in ran:
            out = tmp_path_factory.mktemp("unbroken")
            assert tiny.cli(family, out, "--steps", steps) == 0
            ran[steps] = written(out)
        return ran[steps]

    return run


@pytest.mark.parametrize("saves", [1, 2, 3, 6])
def test_broken_and_resumed_is_unbroken(saves, family, unbroken, tmp_path, monkeypatch):
    path = broken(family, tmp_path, saves, monkeypatch)
    assert path.name == f"tiny_family-h-2@{10 * saves}"  # the earlier ones are gone
    assert not (tmp_path / "tables").exists()
    began = []
    program = fit._program

    def counted(backend: str) -> Callable[..., Any]:
        return lambda *given: began.append(given[-1]) or program(backend)(*given)

    monkeypatch.setattr(fit, "_program", counted)
    assert tiny.cli(family, tmp_path) == 0
    assert began == list(range(saves, 6))  # blocks that are done are not done again
    assert set(unbroken()) == {"tiny_family.parquet", "tiny_family_bits.parquet", "tiny_family_weights.json"}
    assert written(tmp_path) == unbroken()  # every bit of weights, losses and looks
    assert not (tmp_path / "parts").exists()


_children: list[subprocess.Popen[str]] = []


@pytest.fixture
def start(family: ModuleType) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the family in a process, which the end of the test ends."""

    def run(out: Path, *flags: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [sys.executable, *before, str(family.__file__), "--out", str(out), *map(str, flags)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": str(jax.config.read("jax_disable_most_optimizations"))}
        _children.append(subprocess.Popen(command, cwd=ROOT, env=env, **pipes))
        return _children[-1]

    yield run
    while _children:
        with _children.pop() as child:
            child.kill()


def test_killed_at_any_moment_and_resumed_is_unbroken(start, family, unbroken, tmp_path, monkeypatch, count):
    steps, parts = 2000, tmp_path / "parts"
    moments = random.Random(0)
    died = start(tmp_path, "--steps", steps, before=("-c", DIE, "tiny_family-h-2@30"))  # in its write
    assert died.wait(300) == -signal.SIGKILL
    (left,) = parts.glob(".*.tmp")
    assert left.name.startswith(".tiny_family-h-2@30.") and (left / MANIFEST).is_file()
    reached = [20]
    assert at(parts) == 20
    for _ in range(count(20) - 1):
        with start(tmp_path, "--steps", steps) as process:
            while process.poll() is None and at(parts) == reached[-1]:
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.3))
            process.kill()
        assert process.returncode == -signal.SIGKILL, process.communicate()
        assert not (tmp_path / "tables").exists()
        reached.append(at(parts))
    assert reached == sorted(set(reached)) and reached[-1] < steps  # each went on from where the last was killed
    monkeypatch.setattr(fit, "SAVE", 1e9)  # but after the last step
    assert tiny.cli(family, tmp_path, "--steps", steps) == 0
    assert written(tmp_path) == unbroken(steps)
    assert not parts.exists()  # nor what the killed left behind


def at(parts: Path) -> int:
    """Step of the latest checkpoint; 0 if there is none."""
    return max((int(path.name.rpartition("@")[2]) for path in parts.glob("[!.]*@*")), default=0)


def test_what_a_killed_write_left_is_ignored_and_then_removed(family, unbroken, tmp_path, monkeypatch):
    path = broken(family, tmp_path, 2, monkeypatch)
    shutil.copytree(path, path.with_name(".tiny_family-h-2@30.abc.tmp"))  # whole, but for its name
    (path.with_name(".tiny_family-h-2@40.def.tmp") / "arrays").mkdir(parents=True)
    shutil.copytree(path, path.with_name(".tiny_family-h-2@20.tmp"))  # killed when it was being removed
    (path.with_name(".tiny_family-h-2@20.tmp") / MANIFEST).unlink()
    assert tiny.cli(family, tmp_path) == 0
    assert written(tmp_path) == unbroken() and not (tmp_path / "parts").exists()


def spoil(path: Path, how: str) -> None:
    """Damage a checkpoint."""
    target = max((path / "arrays").rglob("*"), key=lambda file: (file.is_file(), file.stat().st_size))
    manifest = path / MANIFEST
    if how == "truncated":
        target.write_bytes(target.read_bytes()[:-1])
    elif how == "emptied":
        target.write_bytes(b"")
    elif how == "flipped":
        content = bytearray(target.read_bytes())
        content[len(content) // 2] ^= 1
        target.write_bytes(content)
    elif how == "missing":
        target.unlink()
    elif how == "added":
        (path / "arrays" / "more").write_bytes(b"")
    elif how == "no manifest":
        manifest.unlink()
    elif how == "no arrays":
        shutil.rmtree(path / "arrays")
    elif how == "manifest cut":
        manifest.write_bytes(manifest.read_bytes()[:-3])
    elif how == "a hash":
        manifest.write_text(manifest.read_text().replace('"arrays/_METADATA": "', '"arrays/_METADATA": "0'))
    elif how == "another form":
        manifest.write_text('{"about": [], "files": 3, "step": null}')
    elif how == "another step":
        path.rename(path.with_name("tiny_family-h-2@40"))
    else:
        raise ValueError(how)


SPOILT = ("truncated", "emptied", "flipped", "missing", "added", "no manifest", "no arrays", "manifest cut", "a hash",
          "another form", "another step")  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_checkpoint_is_refused_in_one_line(how, family, tmp_path, monkeypatch, capsys):
    path = broken(family, tmp_path, 2, monkeypatch)
    spoil(path, how)
    before = everything(tmp_path)
    (now,) = (tmp_path / "parts").glob("*")
    tiny.refused(capsys, tiny.cli(family, tmp_path), str(now), f"delete {now} to train from its start")
    assert everything(tmp_path) == before


def test_a_checkpoint_of_another_run_is_refused(family, tmp_path, monkeypatch, capsys):
    path = broken(family, tmp_path, 2, monkeypatch)
    before = everything(tmp_path)
    for flags, said in ((("--seed", 1), "seed: 0 there, 1 here"), (("--seeds", 2), "seeds: 3 there, 2 here")):
        code = tiny.cli(family, tmp_path, *flags)
        tiny.refused(capsys, code, f"{path} is a checkpoint of another run ({said})")
        assert everything(tmp_path) == before
    source = tmp_path.parent / "edited" / "tiny_family.py"
    source.parent.mkdir()
    source.write_text(Path(str(family.__file__)).read_text() + "# edited\n")
    tiny.refused(capsys, tiny.cli(load(source), tmp_path), f"{path} is a checkpoint of another run (")
    assert everything(tmp_path) == before


def test_another_label_is_another_checkpoint(family, tmp_path, monkeypatch):
    path = broken(family, tmp_path, 2, monkeypatch)
    before = everything(tmp_path / "parts")
    # the same folder and study, h = 1: it trains from its start, and leaves what is not its own
    assert tiny.cli(family, tmp_path, "--h", 1) == 0
    assert everything(tmp_path / "parts") == before
    kept = Parts(tmp_path / "parts", "tiny_family", json.loads((path / MANIFEST).read_text())["about"])
    found = checkpoint.find(kept, LABEL)
    assert found == (path, 20)
    for label in ("h", "h-2@20", "h-", "2", "h-2-20", "*", "h-[0-9]"):
        assert checkpoint.find(kept, label) is None


def test_every_flipped_bit_is_noticed(family, tmp_path, monkeypatch, count):
    path = broken(family, tmp_path, 2, monkeypatch)
    about = json.loads((path / MANIFEST).read_text())["about"]
    kept = Parts(tmp_path / "parts", "tiny_family", about)
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    whole = {file: file.read_bytes() for file in files}
    bits = random.Random(1)
    for _ in range(count(2000)):
        file = bits.choice(files)
        content = bytearray(whole[file])
        bit = bits.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        try:
            assert checkpoint.find(kept, LABEL) is None, f"bit {bit} of {file.name} went unnoticed"
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        file.write_bytes(whole[file])
    assert checkpoint.find(kept, LABEL) == (path, 20)


def test_what_is_restored_is_what_was_saved(tmp_path):
    odd = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38], np.float32)
    arrays = [odd, np.frombuffer(b"\x01\x02\xc0\xff" * 2, np.float32), np.arange(6, dtype=np.int32).reshape(2, 3)]
    arrays += [np.asarray(i, np.float32) for i in range(12)]  # more than ten: in the order they came
    kept = Parts(tmp_path / "parts", "numbers", {"config": {}})
    checkpoint.save(kept, "a", 7, arrays)
    found = checkpoint.find(kept, "a")
    assert found
    for a, b in zip(checkpoint.restore(found, arrays), arrays, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    checkpoint.save(kept, "a", 14, arrays)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["numbers-a@14"]
