"""Files written whole, hashes, and the run folder's list of what it holds."""

import hashlib
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mirage_jax.errors import InputError

SUMS = "SHA256SUMS"
NAMED = 0.05  # seconds in which the holder of a lock has written its name


def write(path: Path, content: bytes | str) -> None:
    """Write a file whole: a temporary name in the same folder, flushed to disk, then `os.replace`."""
    write_all({path: content})


def write_all(contents: Mapping[Path, bytes | str]) -> None:
    """Write files that belong together: each whole, and none in place before all are on disk under temporary names."""
    temporaries: dict[Path, str] = {}
    try:
        for path, content in contents.items():
            if path.is_dir():
                raise InputError(f"expected a name for a file, got a folder: {path}")
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporaries[path] = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporaries[path], 0o666 & ~_umask())
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
    finally:
        for temporary in temporaries.values():
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256(data: bytes | Path) -> str:
    """SHA-256 of bytes, or of a file's content, in hexadecimal."""
    if isinstance(data, Path):
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(data).hexdigest()


def to_json(value: Any) -> str:
    """The one JSON form of a value: sorted keys, indented, no NaN, a newline at the end."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read what `to_json` wrote."""
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON's")


def plain_name(name: str) -> str:
    """A name read from a file, refused if it is a path: it must not lead out of its folder."""
    if not name or name != Path(name).name or name.startswith("."):
        raise InputError(f"expected the name of a file, got the path {name!r}")
    return name


def check_run_folder(out: Path) -> None:
    """Refuse a place where a run cannot write: a file, or a folder whose parts are links to elsewhere."""
    if out.exists() and not out.is_dir():
        raise InputError(f"expected a folder for the results, got a file: {out}")
    for part in ("tables", "results", "figures", "parts", "outputs"):
        if (out / part).is_symlink():
            raise InputError(f"{out / part} is a link: a run writes inside its own folder only")


@contextmanager
def lock(path: Path, alone: bool = True) -> Iterator[None]:
    """Hold a lock file, alone or shared, or refuse at once and say who holds it. It frees itself when its process ends."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666)) as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(NAMED)
            file.seek(0)
            who = file.read(200).decode("utf-8", "replace").strip() or "another process"
            raise InputError(f"{path.parent} is in use by {who}: wait for it, or choose another folder") from None
        except OSError as error:
            raise InputError(
                f"{path.parent} cannot be locked ({error.strerror}): choose a folder on another disk"
            ) from None
        file.truncate(0)
        several = "" if alone else "shards of a sweep, the last to begin being "
        file.write(f"{several}process {os.getpid()} on {socket.gethostname()}\n".encode())
        file.flush()
        yield


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS over every file of a run folder, in the form that `sha256sum -c` reads."""
    write(folder / SUMS, "".join(f"{sha256(folder / name)}  {name}\n" for name in _names(folder)))


def resum(folder: Path, name: str) -> None:
    """Replace the line of one file that was written again; the others keep theirs."""
    lines = (folder / SUMS).read_text("utf-8").splitlines()
    kept = [line for line in lines if line.partition("  ")[2] != name]
    kept.append(f"{sha256(folder / name)}  {name}")
    write(folder / SUMS, "".join(f"{line}\n" for line in sorted(kept, key=lambda line: line.partition("  ")[2])))


def damaged(folder: Path) -> list[str]:
    """What SHA256SUMS and the folder disagree about, a line each: files changed, missing, or not listed."""
    listed: dict[str, str] = {}
    for number, line in enumerate((folder / SUMS).read_bytes().split(b"\n")[:-1], start=1):
        digest, _, name = line.decode("utf-8", "backslashreplace").partition("  ")
        if len(digest) != 64 or not name or name in listed:
            return [f"{SUMS}: line {number} is not a hash and a file name"]
        listed[name] = digest
    found = set(_names(folder))
    faults = [f"{name}: listed in {SUMS}, not found" for name in sorted(set(listed) - found)]
    faults += [f"{name}: not listed in {SUMS}" for name in sorted(found - set(listed))]
    for name in sorted(found & set(listed)):
        if (folder / name).is_symlink() or sha256(folder / name) != listed[name]:
            faults.append(f"{name}: content differs from its SHA-256")
    return faults


def _names(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    left = re.compile(r"\..*\.(tmp|lock)")  # by a run that was killed, or is under way
    names = (path.relative_to(folder).as_posix() for path in files if not left.fullmatch(path.name))
    return sorted(name for name in names if name != SUMS)
