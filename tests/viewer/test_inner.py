"""viser's own port: it serves only the proxy."""

import contextlib
from collections.abc import Iterator

import pytest
import viser
import websockets.asyncio.server
from websockets.exceptions import InvalidStatus

from blocknerf.errors import RunError
from tests.viewer.raw_http import UPGRADE, connect_to, read_all
from tests.viewer.websocket_client import PANEL, open_client
from viewer import inner
from viewer.auth_proxy import AuthProxy
from viewer.inner import SECRET_HEADER, open_inner, stop_inner

SECRET = "the-secret-of-this-test"
PROTOCOL = f"Sec-WebSocket-Protocol: viser-v{viser.__version__}\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = open_inner(SECRET)
    yield server.get_port()
    stop_inner(server)


def response(port: int, more: str, host: str = "") -> bytes:
    """Return the response to a request, up to the end or a short silence."""
    with connect_to(port) as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {host or f'127.0.0.1:{port}'}\r\n{more}\r\n".encode())
        client.settimeout(0.3 if SECRET in more else 15)
        with contextlib.suppress(TimeoutError):
            return read_all(client)
    return b"still open"


@pytest.mark.parametrize("upgrade", ["", UPGRADE + PROTOCOL], ids=["page", "websocket"])
@pytest.mark.parametrize(
    "more",
    [
        "",
        "Origin: http://elsewhere.example\r\n",
        f"{SECRET_HEADER}: \r\n",
        f"{SECRET_HEADER}: {SECRET[:-1]}\r\n",
        f"{SECRET_HEADER}: {SECRET}x\r\n",
        f"{SECRET_HEADER}: {SECRET}\r\n{SECRET_HEADER}: {SECRET}\r\n",
        f"Cookie: {SECRET_HEADER}={SECRET}\r\n",
    ],
)
def test_requests_without_the_secret_are_refused(port: int, more: str, upgrade: str) -> None:
    for host in ("", "elsewhere.example"):
        text = response(port, upgrade + more, host)
        assert text.startswith(b"HTTP/1.1 403 ")
        assert text.endswith(b"\r\n\r\nOnly the proxy may use this port.\n")


def test_requests_with_the_secret_reach_viser(port: int) -> None:
    assert b"<html" in response(port, f"{SECRET_HEADER}: {SECRET}\r\nConnection: close\r\n")
    assert response(port, f"{UPGRADE}{PROTOCOL}{SECRET_HEADER}: {SECRET}\r\n") == b"still open"


def test_a_local_process_cannot_bypass_the_proxy(proxy: AuthProxy) -> None:
    with pytest.raises(InvalidStatus, match="HTTP 403"), open_client(proxy.inner_port):
        pass
    with open_client(proxy.port) as client:
        client.wait_for(PANEL)


def test_other_servers_are_not_guarded(port: int) -> None:
    assert websockets.asyncio.server.serve.__module__ == "websockets.asyncio.server"


def test_a_viser_that_cannot_be_guarded_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def unguarded(secret: str) -> Iterator[list[int]]:
        yield []

    monkeypatch.setattr(inner, "_guarded", unguarded)
    with pytest.raises(RunError, match=r"^view: viser 1\.1\.\d+ opened its port unguarded; run: pip install"):
        open_inner(SECRET)


def test_a_viser_of_another_series_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viser, "__version__", "1.2.0")
    with pytest.raises(RunError, match=r"^view: viser 1\.2\.0 is not 1\.1\.\*; run: pip install 'viser==1\.1\.\*'$"):
        open_inner(SECRET)
