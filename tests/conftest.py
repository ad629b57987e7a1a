"""What every test runs under: shapes checked (jaxtyping + beartype), no network, fixed seeds, and `--soak` for full counts."""

import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import beartype
import hypothesis
import jaxtyping
import pytest

# an int is a float is a complex, as PEP 484 has it; numpy.typing.ArrayLike counts on that
checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
jaxtyping.install_import_hook("mirage_jax", f"{__name__}.checked")  # before mirage_jax is first imported

CHECKOUT = Path(__file__).resolve().parent.parent


class NetworkDenied(OSError):
    """A test tried to leave this machine."""


def _local(host: object) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def _deny_network(event: str, args: tuple) -> None:
    """Audit hook: no test can lift it, no library can go round it. AF_UNIX and loopback pass."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        connection, address = args
        if connection.family == socket.AF_UNIX or address is None or _local(address[0]):
            return
        raise NetworkDenied(f"tests have no network: {event} {address}")
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr") and not _local(args[0]):
        raise NetworkDenied(f"tests have no network: {event} {args[0]!r}")


sys.addaudithook(_deny_network)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="full counts (a plain run takes about a tenth)")


def pytest_configure(config: pytest.Config) -> None:
    common = {"deadline": None, "database": None, "derandomize": True}
    hypothesis.settings.register_profile("plain", max_examples=100, **common)
    hypothesis.settings.register_profile("soak", max_examples=1000, **common)
    hypothesis.settings.load_profile("soak" if config.getoption("--soak") else "plain")


@pytest.fixture(scope="session")
def count(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """The full count under `--soak`, a tenth of it otherwise."""
    return (lambda full: full) if request.config.getoption("--soak") else (lambda full: max(full // 10, 1))


@pytest.fixture(scope="module")
def quick_compile(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile without XLA's optimisations, for modules most of whose time is compiling; with them under `--soak`."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", before or not request.config.getoption("--soak"))
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data: MIRAGE_DATA, else ../shared/data beside the checkout; without either the test is skipped."""
    named = os.environ.get("MIRAGE_DATA")
    folder = Path(named) if named else CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: set MIRAGE_DATA, or put it in {folder}")
    return folder
