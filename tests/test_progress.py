"""What reaches a terminal or a pipe (S3, U8)."""

import contextlib
import io
import os
import pty
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from mirage_jax import progress

HOSTILE = "a\x1b]0;title\x07b\x9b31mc\u202ed\rE\x00[red]x[/red]"
SHOWN = "a\\x1b]0;title\\x07b\\x9b31mc\\u202ed\\x0dE\\x00[red]x[/red]"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "CI", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(progress, "_said", 0.0, raising=False)


@contextmanager
def terminal():
    """Standard error and output on a pseudo-terminal; afterwards `seen` holds what reached its other side."""
    ours, theirs = pty.openpty()
    seen = SimpleNamespace(data=b"")
    with open(theirs, "w", encoding="utf-8", buffering=1) as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(sys, "stdout", stream)
        yield seen
        stream.write("<end>")
        stream.flush()
        while not seen.data.endswith(b"<end>"):
            seen.data += os.read(ours, 1 << 16)
        seen.data = seen.data.removesuffix(b"<end>")
    os.close(ours)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


# --- echo ---


def test_echo_to_a_pipe(capsys):
    progress.echo(HOSTILE)
    progress.echo(f"one\n{HOSTILE}", err=True)
    shown = capsys.readouterr()
    assert shown.out == f"{SHOWN}\n"
    assert shown.err == f"one\n{SHOWN}\n"


def test_echo_to_a_terminal():
    with terminal() as seen:
        progress.echo(HOSTILE)
    assert seen.data == SHOWN.encode() + b"\r\n"  # the terminal's own line end


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_echo_to_a_narrow_encoding(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    progress.echo("é日🙂")
    assert raw.getvalue().decode(encoding) == ("\\xe9" if encoding == "ascii" else "é") + "\\u65e5\\U0001f642\n"


# --- without a terminal ---


def work(clock, seconds, steps, label="work", inner=0):
    with progress.shown():
        for _ in progress.track(range(steps), label):
            for _ in progress.track(range(inner), "inner"):
                clock.now += seconds / inner
            clock.now += 0 if inner else seconds


@pytest.mark.parametrize(("seconds", "steps", "inner"), [(1, 100, 0), (1, 29, 0), (40, 5, 0), (10, 30, 10), (45, 4, 3)])
def test_without_a_terminal_at_most_one_line_in_30_seconds(clock, capsys, seconds, steps, inner):
    work(clock, seconds, steps, inner=inner)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) <= seconds * steps / 30
    assert bool(shown.err) == (seconds * steps > 30)


def test_a_line_says_how_much_is_done_and_left(clock, capsys):
    work(clock, 10, 12, HOSTILE[:6])
    assert capsys.readouterr().err.splitlines()[0] == "a\\x1b]0;t: 25%, 90 s left"


def test_weights_are_the_expected_work(clock, capsys):
    with progress.shown():
        for seconds in progress.track([40, 10, 50], "weighted", [40, 10, 50]):
            clock.now += seconds
    assert capsys.readouterr().err.splitlines() == ["weighted: 40%, 60 s left", "weighted: 100%, 0 s left"]


def test_a_rate_stands_where_the_weights_count_something(clock, capsys):
    with progress.shown():
        for seconds in progress.track([40, 10, 50], "sweep", [4e9, 1e9, 5e9], unit="tokens"):
            clock.now += seconds
    assert capsys.readouterr().err.splitlines() == [
        "sweep: 40%, 60 s left, 1e+08 tokens/s",
        "sweep: 100%, 0 s left, 1e+08 tokens/s",
    ]


@pytest.mark.parametrize("left", [KeyboardInterrupt, SystemExit])
def test_progress_swallows_no_interrupt(clock, capsys, left):
    for place in (contextlib.nullcontext, terminal):
        seen = []
        with pytest.raises(left), place(), progress.shown():
            for item in progress.track([1, 2, 3], "sweep", [1.0, 1.0, 1.0], unit="tokens"):
                seen.append(item)
                if item == 2:
                    raise left
        assert seen == [1, 2] and progress._bar is None
    assert capsys.readouterr().err == ""


def test_all_items_come_through(capsys):
    assert list(progress.track([3, 1, 2], "x")) == [3, 1, 2]
    assert list(progress.track([], "x")) == []
    with pytest.raises(ValueError, match="shorter"):
        list(progress.track([1, 2], "x", [1.0]))
    assert capsys.readouterr().err == ""


# --- on a terminal ---


def bar(quiet=False, seconds=0, clock=None):
    with terminal() as seen, progress.shown(quiet):
        for _ in progress.track(range(3), HOSTILE):
            if clock:
                clock.now += seconds
    return seen.data


def test_quiet_says_nothing(clock):
    assert bar(quiet=True, seconds=100, clock=clock) == b""


def test_a_bar_shows_the_rate_and_the_time_left(clock):
    with terminal() as seen, progress.shown():
        for _ in progress.track(range(3), "sweep", [2e9] * 3, unit="tokens"):
            clock.now += 10
            if progress._bar:
                progress._bar.refresh()
    assert b"sweep, 2e+08 tokens/s" in seen.data and b"left" in seen.data


def test_a_bar_takes_nothing_from_the_label():
    data = bar()
    assert b"/3" in data and b"\x1b" in data  # a bar that moves
    for act in (b"\x1b]", b"\x07", b"\xc2\x9b", "\u202e".encode(), b"\x00"):
        assert act not in data
    assert SHOWN[:12].encode() in data


def test_markup_in_a_label_is_text():
    with terminal() as seen, progress.shown():
        assert list(progress.track([1], "[red]x[/blue]")) == [1]
    assert b"[red]x[/blue]" in seen.data


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("CI", "true")])
def test_no_bar_where_it_would_not_move(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert bar() == b""


def test_no_color(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    data = bar()
    assert b"/3" in data
    assert not any(b"\x1b[%d" % code in data for code in (*range(31, 40), *range(90, 98)))


def test_force_color_is_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.shown():
        list(progress.track(range(3), "x"))
    assert "/3" in capsys.readouterr().err


def test_bars_are_put_away():
    with pytest.raises(ZeroDivisionError), terminal(), progress.shown():
        for _ in progress.track(range(3), "x"):
            _ = 1 // 0
    assert progress._bar is None and progress._quiet is False
