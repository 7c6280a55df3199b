"""The door to the viewer: who is let in."""

import re
import socket

import pytest

from blocknerf.errors import RunError
from tests.viewer.visitors import TOKEN, UPGRADE, Inner, ask, connect, cookie, head, read_until, wait_for, websocket
from viewer.auth_proxy import PASS, AuthProxy, check_binding, is_loopback


@pytest.mark.parametrize(
    "target", ["/", "/?token=", f"/?token={TOKEN[:-1]}", f"/?token={TOKEN}x", f"/?untoken={TOKEN}"]
)
def test_without_the_token_nothing_passes(locked: AuthProxy, inner: Inner, target: str) -> None:
    for more in ("", UPGRADE, cookie(locked, "another1"), f"Cookie: blocknerf_token={TOKEN}\r\n"):
        status, said = ask(locked, head(locked, target, more))
        assert status == 403
        assert "blocknerf view" in said
        assert TOKEN not in said
    assert inner.heads == []


def test_a_token_in_the_address_becomes_a_cookie_that_lets_in(locked: AuthProxy, inner: Inner) -> None:
    status, said = ask(locked, head(locked, f"/a/b?x=1&token={TOKEN}&y=%2F"))
    assert status == 303
    assert "\r\nLocation: /a/b?x=1&y=%2F\r\n" in said
    kept = f"\r\nSet-Cookie: blocknerf_token_{locked.port}={TOKEN}; HttpOnly; SameSite=Strict; Path=/\r\n"
    assert kept in said
    assert "\r\nLocation: /\r\n" in ask(locked, head(locked, f"/?token={TOKEN}"))[1]
    assert inner.heads == []
    status, said = ask(locked, head(locked, "/a/b?x=1", cookie(locked)))
    assert (status, said[-5:]) == (200, "inner")


def test_the_redirect_stays_on_this_host(locked: AuthProxy) -> None:
    for target in (f"//elsewhere.example/?token={TOKEN}", f"/\\elsewhere.example/?token={TOKEN}"):
        assert ask(locked, head(locked, target))[0] == 400


def test_a_websocket_comes_in_with_the_cookie_or_the_token(locked: AuthProxy, inner: Inner) -> None:
    for target, more in (("/", cookie(locked)), (f"/?token={TOKEN}", "")):
        with websocket(locked, target, more) as visitor:
            visitor.sendall(b"frame")
            assert read_until(visitor, b"frame") == b"frame"
        assert inner.heads[-1] == head(locked, target, UPGRADE + more)


def test_the_secret_of_the_inner_server_is_the_gates_alone(inner: Inner) -> None:
    with AuthProxy("127.0.0.1", 0, inner.server_address[1], None, "inner-secret") as gate:
        for more in ("", UPGRADE, f"{PASS}: guessed\r\n", f"{UPGRADE}{PASS.lower()}: guessed\r\n"):
            with connect(gate) as visitor:
                visitor.sendall(head(gate, "/", more))
                assert b"inner-secret" not in read_until(visitor, b"\r\n\r\n")
            assert re.findall(rb"(?i)\r\nx-blocknerf-gate: *([^\r]*)", inner.heads[-1]) == [b"inner-secret"]


def test_the_page_of_another_site_cannot_open_a_websocket(free: AuthProxy, locked: AuthProxy, inner: Inner) -> None:
    for gate in (free, locked):
        for origin in ("http://elsewhere.example", f"http://127.0.0.1:{gate.port + 1}", "null", "http://127.0.0.1"):
            more = f"{UPGRADE}Origin: {origin}\r\n{cookie(gate)}"
            assert ask(gate, head(gate, f"/?token={TOKEN}", more))[0] == 403
        assert inner.heads == []
    for gate in (free, locked):
        websocket(gate, "/", f"Origin: http://127.0.0.1:{gate.port}\r\n{cookie(gate)}").close()


def test_a_foreign_name_for_this_machine_needs_the_token(free: AuthProxy, locked: AuthProxy, inner: Inner) -> None:
    for host in ("elsewhere.example", f"elsewhere.example:{free.port}", "127.0.0.1.elsewhere.example", "10.0.0.1"):
        assert ask(free, head(free, host=host))[0] == 403
        assert ask(free, head(free, "/", UPGRADE, host=host))[0] == 403
    assert inner.heads == []
    for host in ("localhost", f"LocalHost:{free.port}", "[::1]:80", "127.0.0.1"):
        assert ask(free, head(free, host=host))[0] == 200
    assert ask(locked, head(locked, "/", cookie(locked), host="city.example"))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "CONNECT", "get"])
def test_pages_are_only_read(free: AuthProxy, inner: Inner, method: str) -> None:
    status, said = ask(free, head(free, "/", "Content-Length: 200000\r\n", method) + bytes(200_000))
    assert status == 405
    assert "\r\nAllow: GET, HEAD\r\n" in said
    assert inner.heads == []
    assert ask(free, head(free, method="HEAD"))[0] == 200


def test_a_port_in_use_is_told(free: AuthProxy) -> None:
    with pytest.raises(RunError, match=rf"^view: port {free.port} of 127\.0\.0\.1 is in use; give another --port"):
        AuthProxy("127.0.0.1", free.port, 1, None).start()
    with pytest.raises(RunError, match=r"^view: port 0 of 203\.0\.113\.1 cannot be opened \(.*\); give another --port"):
        AuthProxy("203.0.113.1", 0, 1, TOKEN).start()


def test_addresses_open_to_others_need_a_token() -> None:
    for host in ("127.0.0.1", "127.8.0.1", "localhost", "::1"):
        check_binding(host, None)
        check_binding(host, TOKEN)
    for host in ("0.0.0.0", "::", "", "192.168.0.7", "city.example"):
        check_binding(host, TOKEN)
        with pytest.raises(RunError, match=f"^view: --host {host} lets anyone in; give --token too"):
            check_binding(host, None)
        with pytest.raises(RunError, match="lets anyone in"):
            AuthProxy(host, 0, 1, None)
    assert is_loopback("LOCALHOST")
    assert not is_loopback("localhost.example")


@pytest.mark.parametrize("token", ["", "short-7", "with space", "ümlauts-too", f"{TOKEN}\n", "semicolon;", "a&b=cdefg"])
def test_unfit_tokens_are_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(RunError, match=r"^view: --token is not at least 8 letters") as refusal:
        check_binding("127.0.0.1", token)
    assert not token or token not in str(refusal.value)


def test_the_address_is_the_one_to_open(free: AuthProxy, locked: AuthProxy) -> None:
    assert free.url == f"http://127.0.0.1:{free.port}/"
    assert locked.url == f"http://127.0.0.1:{locked.port}/?token={TOKEN}"
    assert AuthProxy("::1", 80, 1, None).url == "http://[::1]:80/"
    assert AuthProxy("0.0.0.0", 80, 1, TOKEN).url == f"http://{socket.gethostname()}:80/?token={TOKEN}"


def test_localhost_is_open_to_a_visitor(inner: Inner) -> None:
    with AuthProxy("localhost", 0, inner.server_address[1], None) as gate:
        assert ask(gate, head(gate, host=f"localhost:{gate.port}"))[0] == 200


def test_the_real_viewer_is_reached(capfd: pytest.CaptureFixture[str]) -> None:
    viser = pytest.importorskip("viser", reason="needs the extra that the viewer is served with")
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        with AuthProxy("127.0.0.1", 0, server.get_port(), TOKEN) as gate:
            assert ask(gate, head(gate))[0] == 403
            status, page = ask(gate, head(gate, "/", cookie(gate)))
            assert status == 200
            assert "<html" in page
            offer = (
                f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Protocol: viser-v{viser.__version__}\r\nOrigin: http://127.0.0.1:{gate.port}\r\n"
            )
            with connect(gate) as visitor:
                visitor.sendall(head(gate, "/", UPGRADE + offer + cookie(gate)))
                answered, _, frame = read_until(visitor, b"\r\n\r\n").partition(b"\r\n\r\n")
                assert answered.startswith(b"HTTP/1.1 101 ")
                # What viser sends first may come with the answer's head.
                assert (frame or visitor.recv(2))[0] == 0x82  # a whole binary frame
            wait_for(lambda: gate.connections == 0)
    finally:
        server.stop()
