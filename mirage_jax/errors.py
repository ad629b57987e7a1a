"""What a user can mend, and how a command ends: one line and the contract's exit code, never a traceback for bad input."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

DONE, BUG, MENDABLE, PARTIAL = 0, 1, 2, 4


class InputError(ValueError):
    """Input that the user can mend: the message says what was expected, what came, and where."""


class _Terminated(BaseException):
    """SIGTERM came."""


def run(command: Callable[[], int | None]) -> int:
    """Call a command and return its exit code: 0, 2 for `InputError` and operating-system errors, 130/143 for signals.

    Anything else is our own bug and keeps its traceback (Python then exits with 1).
    """
    from mirage_jax.progress import echo

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise _Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        return command() or DONE
    except InputError as error:
        echo(f"error: {' '.join(str(error).split())}", err=True)
        return MENDABLE
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has left: a message would have no reader
        return MENDABLE
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        echo(f"error: {error.strerror or error}{where}", err=True)
        return MENDABLE
    except (KeyboardInterrupt, _Terminated) as stop:
        echo("interrupted; finished tables are kept, run the same command to go on", err=True)
        return 128 + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, previous)


def leave(code: int) -> NoReturn:
    """End the process with this exit code; after a signal at once, since JAX's threads may still be at work."""
    if code < 128:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
