"""viser's own port: it answers the gate alone."""

import contextlib
from collections.abc import Iterator

import pytest
import viser
import websockets.asyncio.server
from websockets.exceptions import InvalidStatus

from blocknerf.errors import RunError
from tests.viewer.speaking import PANEL, speaker
from tests.viewer.visitors import UPGRADE, connect_to, read_all
from viewer import inner
from viewer.auth_proxy import PASS, AuthProxy
from viewer.inner import open_inner, stop_inner

SECRET = "the-secret-of-this-test"
OFFER = (
    f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: viser-v{viser.__version__}\r\n"
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = open_inner(SECRET)
    yield server.get_port()
    stop_inner(server)


def said(port: int, more: str, host: str = "") -> bytes:
    """All that the port says to a request, up to the end or to a moment of silence."""
    with connect_to(port) as visitor:
        visitor.sendall(f"GET / HTTP/1.1\r\nHost: {host or f'127.0.0.1:{port}'}\r\n{more}\r\n".encode())
        visitor.settimeout(0.3 if SECRET in more else 15)
        with contextlib.suppress(TimeoutError):
            return read_all(visitor)
    return b"it went on"


@pytest.mark.parametrize("upgrade", ["", UPGRADE + OFFER], ids=["page", "websocket"])
@pytest.mark.parametrize(
    "more",
    [
        "",
        "Origin: http://elsewhere.example\r\n",
        f"{PASS}: \r\n",
        f"{PASS}: {SECRET[:-1]}\r\n",
        f"{PASS}: {SECRET}x\r\n",
        f"{PASS}: {SECRET}\r\n{PASS}: {SECRET}\r\n",
        f"Cookie: {PASS}={SECRET}\r\n",
    ],
)
def test_without_the_secret_the_port_says_nothing_else(port: int, more: str, upgrade: str) -> None:
    for host in ("", "elsewhere.example"):
        answer = said(port, upgrade + more, host)
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert answer.endswith(b"\r\n\r\nOnly the gate speaks to this port.\n")


def test_with_the_secret_it_is_viser(port: int) -> None:
    assert b"<html" in said(port, f"{PASS}: {SECRET}\r\nConnection: close\r\n")
    assert said(port, f"{UPGRADE}{OFFER}{PASS}: {SECRET}\r\n") == b"it went on"


def test_a_process_of_this_machine_that_goes_around_the_gate_sees_nothing(gate: AuthProxy) -> None:
    with pytest.raises(InvalidStatus, match="HTTP 403"), speaker(gate._inner[1]):
        pass
    with speaker(gate.port) as visitor:
        visitor.wait_for(PANEL)


def test_other_servers_are_not_guarded(port: int) -> None:
    assert websockets.asyncio.server.serve.__module__ == "websockets.asyncio.server"


def test_a_viser_that_could_not_be_guarded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def unguarded(secret: str) -> Iterator[list[int]]:
        yield []

    monkeypatch.setattr(inner, "_guarded", unguarded)
    with pytest.raises(RunError, match=r"^view: viser 1\.1\.\d+ opened its port unguarded; run: pip install"):
        open_inner(SECRET)


def test_a_viser_of_another_series_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viser, "__version__", "1.2.0")
    with pytest.raises(RunError, match=r"^view: viser 1\.2\.0 is not 1\.1\.\*; run: pip install 'viser==1\.1\.\*'$"):
        open_inner(SECRET)
