"""Files are written whole or not at all."""

import errno
import math
import os
import stat
import subprocess

import pytest

from mirage_jax import files
from mirage_jax.errors import InputError


def test_write_makes_folders_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a" / "b" / "t.txt"
    files.write(path, "één\n")
    assert path.read_bytes() == "één\n".encode()
    files.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["t.txt"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_write_honours_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        files.write(tmp_path / "t", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("site", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch, site, number):
    path = tmp_path / "t"
    files.write(path, b"older")

    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, site, fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        files.write(path, b"newer")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"t": b"older"}


def test_json_has_one_form():
    assert files.to_json({"b": 1, "a": "é"}) == '{\n "a": "\\u00e9",\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.to_json(math.nan)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b"9" * 5000, b"[" * 100_000])
def test_what_is_not_json_is_named(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json is not JSON"):
        files.read_json(tmp_path / "x.json")


def test_sums_are_read_by_sha256sum(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b.txt").write_text("a")
    (tmp_path / "b").write_text("b")
    (tmp_path / ".b.xyz.tmp").write_text("a write that was killed")
    files.write_sums(tmp_path)
    lines = (tmp_path / files.SUMS).read_text().splitlines()
    assert [line[66:] for line in lines] == ["b", "sub/a b.txt"]
    assert lines[0][:64] == "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"  # printf b | sha256sum
    done = subprocess.run(["sha256sum", "-c", files.SUMS], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0
    assert files.damaged(tmp_path) == []
    (tmp_path / "b").unlink()
    assert files.damaged(tmp_path) == ["b: listed in SHA256SUMS, not found"]


def test_a_run_writes_inside_its_own_folder_only(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "tables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="tables is a link"):
        files.check_run_folder(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder for the results, got a file"):
        files.check_run_folder(tmp_path / "file")
    files.check_run_folder(tmp_path / "new" / "run")
