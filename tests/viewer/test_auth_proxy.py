"""Authorization by the proxy: which requests are forwarded."""

import re
import socket

import pytest

from blocknerf.errors import RunError
from tests.viewer.raw_http import (
    TOKEN,
    UPGRADE,
    StubServer,
    connect,
    cookie,
    frame,
    head,
    message,
    open_websocket,
    read_until,
    send_request,
    wait_for,
)
from viewer.access import check_binding, is_loopback
from viewer.auth_proxy import AuthProxy
from viewer.inner import SECRET_HEADER


@pytest.mark.parametrize(
    "target", ["/", "/?token=", f"/?token={TOKEN[:-1]}", f"/?token={TOKEN}x", f"/?untoken={TOKEN}"]
)
def test_requests_without_the_token_are_refused(token_proxy: AuthProxy, stub: StubServer, target: str) -> None:
    for more in ("", UPGRADE, cookie(token_proxy, "another1"), f"Cookie: blocknerf_token={TOKEN}\r\n"):
        status, response = send_request(token_proxy, head(token_proxy, target, more))
        assert status == 403
        assert "blocknerf view" in response
        assert TOKEN not in response
    assert stub.heads == []


def test_a_token_in_the_url_becomes_a_cookie(token_proxy: AuthProxy, stub: StubServer) -> None:
    status, response = send_request(token_proxy, head(token_proxy, f"/a/b?x=1&token={TOKEN}&y=%2F"))
    assert status == 303
    assert "\r\nLocation: /a/b?x=1&y=%2F\r\n" in response
    set_cookie = f"\r\nSet-Cookie: blocknerf_token_{token_proxy.port}={TOKEN}; HttpOnly; SameSite=Strict; Path=/\r\n"
    assert set_cookie in response
    assert "\r\nLocation: /\r\n" in send_request(token_proxy, head(token_proxy, f"/?token={TOKEN}"))[1]
    assert stub.heads == []
    status, response = send_request(token_proxy, head(token_proxy, "/a/b?x=1", cookie(token_proxy)))
    assert (status, response[-5:]) == (200, "inner")


def test_the_redirect_stays_on_this_host(token_proxy: AuthProxy) -> None:
    for target in (f"//elsewhere.example/?token={TOKEN}", f"/\\elsewhere.example/?token={TOKEN}"):
        assert send_request(token_proxy, head(token_proxy, target))[0] == 400


def test_a_websocket_needs_the_cookie_or_the_token(token_proxy: AuthProxy, stub: StubServer) -> None:
    for target, more in (("/", cookie(token_proxy)), (f"/?token={TOKEN}", "")):
        with open_websocket(token_proxy, target, more) as client:
            client.sendall(frame(message("hello")))
            assert read_until(client, b"hello").endswith(message("hello"))
        assert stub.heads[-1].startswith(f"GET {target} HTTP/1.1\r\n".encode())


def test_only_the_proxy_sends_the_secret_of_the_inner_server(stub: StubServer) -> None:
    with AuthProxy("127.0.0.1", 0, stub.server_address[1], None, "inner-secret") as proxy:
        for more in ("", UPGRADE, f"{SECRET_HEADER}: guessed\r\n", f"{UPGRADE}{SECRET_HEADER.lower()}: guessed\r\n"):
            with connect(proxy) as client:
                client.sendall(head(proxy, "/", more))
                assert b"inner-secret" not in read_until(client, b"\r\n\r\n")
            assert re.findall(rb"(?i)\r\nx-blocknerf-proxy: *([^\r]*)", stub.heads[-1]) == [b"inner-secret"]


def test_a_page_of_another_site_cannot_open_a_websocket(
    open_proxy: AuthProxy, token_proxy: AuthProxy, stub: StubServer
) -> None:
    for proxy in (open_proxy, token_proxy):
        for origin in ("http://elsewhere.example", f"http://127.0.0.1:{proxy.port + 1}", "null", "http://127.0.0.1"):
            more = f"{UPGRADE}Origin: {origin}\r\n{cookie(proxy)}"
            assert send_request(proxy, head(proxy, f"/?token={TOKEN}", more))[0] == 403
        assert stub.heads == []
    for proxy in (open_proxy, token_proxy):
        open_websocket(proxy, "/", f"Origin: http://127.0.0.1:{proxy.port}\r\n{cookie(proxy)}").close()


def test_a_foreign_host_name_needs_the_token(open_proxy: AuthProxy, token_proxy: AuthProxy, stub: StubServer) -> None:
    for host in (
        "elsewhere.example",
        f"elsewhere.example:{open_proxy.port}",
        "127.0.0.1.elsewhere.example",
        "10.0.0.1",
    ):
        assert send_request(open_proxy, head(open_proxy, host=host))[0] == 403
        assert send_request(open_proxy, head(open_proxy, "/", UPGRADE, host=host))[0] == 403
    assert stub.heads == []
    for host in ("localhost", f"LocalHost:{open_proxy.port}", "[::1]:80", "127.0.0.1"):
        assert send_request(open_proxy, head(open_proxy, host=host))[0] == 200
    assert send_request(token_proxy, head(token_proxy, "/", cookie(token_proxy), host="city.example"))[0] == 200


@pytest.mark.parametrize(
    ("method", "expected"), [("POST", 405), ("PUT", 405), ("OPTIONS", 405), ("CONNECT", 405), ("get", 400)]
)
def test_only_get_and_head_are_accepted(open_proxy: AuthProxy, stub: StubServer, method: str, expected: int) -> None:
    status, response = send_request(
        open_proxy, head(open_proxy, "/", "Content-Length: 200000\r\n", method) + bytes(200_000)
    )
    assert status == expected
    assert ("\r\nAllow: GET, HEAD\r\n" in response) == (status == 405)
    assert stub.heads == []
    assert send_request(open_proxy, head(open_proxy, method="HEAD"))[0] == 200


def test_a_port_in_use_raises(open_proxy: AuthProxy) -> None:
    with pytest.raises(
        RunError, match=rf"^view: port {open_proxy.port} of 127\.0\.0\.1 is in use; choose another --port"
    ):
        AuthProxy("127.0.0.1", open_proxy.port, 1, None).start()
    with pytest.raises(
        RunError, match=r"^view: port 0 of 203\.0\.113\.1 cannot be opened \(.*\); choose another --port"
    ):
        AuthProxy("203.0.113.1", 0, 1, TOKEN).start()


def test_public_addresses_need_a_token() -> None:
    for host in ("127.0.0.1", "127.8.0.1", "localhost", "::1"):
        check_binding(host, None)
        check_binding(host, TOKEN)
    for host in ("0.0.0.0", "::", "", "192.168.0.7", "city.example"):
        check_binding(host, TOKEN)
        with pytest.raises(RunError, match=f"^view: --host {host} is open to other machines; add --token"):
            check_binding(host, None)
        with pytest.raises(RunError, match="is open to other machines"):
            AuthProxy(host, 0, 1, None)
    assert is_loopback("LOCALHOST")
    assert not is_loopback("localhost.example")


@pytest.mark.parametrize("token", ["", "short-7", "with space", "ümlauts-too", f"{TOKEN}\n", "semicolon;", "a&b=cdefg"])
def test_invalid_tokens_raise_and_are_not_repeated(token: str) -> None:
    with pytest.raises(RunError, match=r"^view: --token is not 8 or more letters") as error:
        check_binding("127.0.0.1", token)
    assert not token or token not in str(error.value)


def test_the_url_can_be_opened(open_proxy: AuthProxy, token_proxy: AuthProxy) -> None:
    assert open_proxy.url == f"http://127.0.0.1:{open_proxy.port}/"
    assert token_proxy.url == f"http://127.0.0.1:{token_proxy.port}/?token={TOKEN}"
    assert AuthProxy("::1", 80, 1, None).url == "http://[::1]:80/"
    assert AuthProxy("0.0.0.0", 80, 1, TOKEN).url == f"http://{socket.gethostname()}:80/?token={TOKEN}"


def test_a_proxy_on_localhost_is_reachable(stub: StubServer) -> None:
    with AuthProxy("localhost", 0, stub.server_address[1], None) as proxy:
        assert send_request(proxy, head(proxy, host=f"localhost:{proxy.port}"))[0] == 200


def test_requests_reach_viser(capfd: pytest.CaptureFixture[str]) -> None:
    viser = pytest.importorskip("viser", reason="needs the extra 'view'")
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        with AuthProxy("127.0.0.1", 0, server.get_port(), TOKEN) as proxy:
            assert send_request(proxy, head(proxy))[0] == 403
            status, page = send_request(proxy, head(proxy, "/", cookie(proxy)))
            assert status == 200
            assert "<html" in page
            handshake = (
                f"Sec-WebSocket-Protocol: viser-v{viser.__version__}\r\nOrigin: http://127.0.0.1:{proxy.port}\r\n"
            )
            with connect(proxy) as client:
                client.sendall(head(proxy, "/", UPGRADE + handshake + cookie(proxy)))
                response_head, _, frame = read_until(client, b"\r\n\r\n").partition(b"\r\n\r\n")
                assert response_head.startswith(b"HTTP/1.1 101 ")
                # viser's first frame may arrive together with the response head.
                assert (frame or client.recv(2))[0] == 0x82  # a whole binary frame
            wait_for(lambda: proxy.connections == 0)
    finally:
        server.stop()
