"""The door to the viewer: who is let in, what passes, and that nobody keeps it from the others."""

import gc
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from blocknerf.errors import RunError
from viewer import gate as gate_module
from viewer.gate import Gate, check_binding, is_loopback

TOKEN = "a-good_Token1"
FLOOD_BYTES = 64 << 20
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\n"


class Inner(socketserver.ThreadingTCPServer):
    """Stands for viser: says which heads it got, echoes on a websocket, and never closes a page by itself."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.later = b""
        self.flooded = 0
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), Visit)


class Visit(socketserver.BaseRequestHandler):
    server: Inner
    request: socket.socket

    def handle(self) -> None:
        with suppress(OSError, AssertionError):  # the gate went away, as some tests have it
            self.talk()

    def talk(self) -> None:
        head, _, rest = read_until(self.request, b"\r\n\r\n").partition(b"\r\n\r\n")
        self.server.heads.append(head + b"\r\n\r\n")
        target = head.split(b" ")[1]
        if target.startswith(b"/dumb"):
            return
        if target.startswith(b"/held"):
            self.server.released.wait(20)
        if b"upgrade: websocket" not in head.lower() or target.startswith(b"/refused"):
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ninner")
            self.request.settimeout(0.2)
            with suppress(TimeoutError):
                while data := rest or self.request.recv(1 << 16):
                    self.server.later, rest = self.server.later + data, b""
            return
        self.request.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        self.request.sendall(rest)
        if target.startswith(b"/flood"):
            while self.server.flooded < FLOOD_BYTES:
                self.request.sendall(bytes(1 << 16))
                self.server.flooded += 1 << 16
        if target.startswith(b"/ends"):
            return
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)
        self.request.sendall(b"the end")


def read_all(visitor: socket.socket) -> bytes:
    return b"".join(iter(lambda: visitor.recv(1 << 16), b""))


def read_until(visitor: socket.socket, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        more = visitor.recv(1 << 16)
        assert more, f"ended after {data!r}"
        data += more
    return data


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.005)


@pytest.fixture
def inner() -> Iterator[Inner]:
    with Inner() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def locked(inner: Inner) -> Iterator[Gate]:
    """A gate with a token."""
    with Gate("127.0.0.1", 0, inner.server_address[1], TOKEN) as gate:
        yield gate


@pytest.fixture
def free(inner: Inner) -> Iterator[Gate]:
    """A gate without one."""
    with Gate("127.0.0.1", 0, inner.server_address[1], None) as gate:
        yield gate


def connect(gate: Gate) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gate.port), timeout=15)


def head(gate: Gate, target: str = "/", more: str = "", method: str = "GET", host: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host or f'127.0.0.1:{gate.port}'}\r\n{more}\r\n".encode()


def ask(gate: Gate, request: bytes) -> tuple[int, str]:
    """Status and everything that was said, up to the end of the connection."""
    with connect(gate) as visitor:
        visitor.sendall(request)
        said = read_all(visitor).decode()
    return int(said.split()[1]), said


def cookie(gate: Gate, token: str = TOKEN) -> str:
    return f"Cookie: other=1; blocknerf_token_{gate.port}={token}\r\n"


def websocket(gate: Gate, target: str = "/", more: str = "") -> socket.socket:
    visitor = connect(gate)
    visitor.sendall(head(gate, target, UPGRADE + more))
    assert read_until(visitor, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    return visitor


@pytest.mark.parametrize(
    "target", ["/", "/?token=", f"/?token={TOKEN[:-1]}", f"/?token={TOKEN}x", f"/?untoken={TOKEN}"]
)
def test_without_the_token_nothing_passes(locked: Gate, inner: Inner, target: str) -> None:
    for more in ("", UPGRADE, cookie(locked, "another1"), f"Cookie: blocknerf_token={TOKEN}\r\n"):
        status, said = ask(locked, head(locked, target, more))
        assert status == 403
        assert "blocknerf view" in said
        assert TOKEN not in said
    assert inner.heads == []


def test_a_token_in_the_address_becomes_a_cookie_that_lets_in(locked: Gate, inner: Inner) -> None:
    status, said = ask(locked, head(locked, f"/a/b?x=1&token={TOKEN}&y=%2F"))
    assert status == 303
    assert "\r\nLocation: /a/b?x=1&y=%2F\r\n" in said
    kept = f"\r\nSet-Cookie: blocknerf_token_{locked.port}={TOKEN}; HttpOnly; SameSite=Strict; Path=/\r\n"
    assert kept in said
    assert "\r\nLocation: /\r\n" in ask(locked, head(locked, f"/?token={TOKEN}"))[1]
    assert inner.heads == []
    status, said = ask(locked, head(locked, "/a/b?x=1", cookie(locked)))
    assert (status, said[-5:]) == (200, "inner")


def test_the_redirect_stays_on_this_host(locked: Gate) -> None:
    for target in (f"//elsewhere.example/?token={TOKEN}", f"/\\elsewhere.example/?token={TOKEN}"):
        assert ask(locked, head(locked, target))[0] == 400


def test_a_websocket_comes_in_with_the_cookie_or_the_token(locked: Gate, inner: Inner) -> None:
    for target, more in (("/", cookie(locked)), (f"/?token={TOKEN}", "")):
        with websocket(locked, target, more) as visitor:
            visitor.sendall(b"frame")
            assert read_until(visitor, b"frame") == b"frame"
        assert inner.heads[-1] == head(locked, target, UPGRADE + more)


def test_bytes_pass_both_ways_at_once_and_after_a_half_close(free: Gate) -> None:
    data = bytes(range(256)) * (5 << 12)
    with websocket(free) as visitor:
        sender = threading.Thread(target=lambda: (visitor.sendall(data), visitor.shutdown(socket.SHUT_WR)))
        sender.start()
        assert read_all(visitor) == data + b"the end"
        sender.join()
    wait_for(lambda: free.connections == 0)


def test_frames_that_come_with_the_head_are_not_lost(free: Gate) -> None:
    with connect(free) as visitor:
        visitor.sendall(head(free, "/", UPGRADE) + b"early")
        assert read_until(visitor, b"early").endswith(b"\r\n\r\nearly")


def test_a_websocket_ends_when_the_viewer_ends_it(free: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "LINGER_SECONDS", 0.1)
    with websocket(free, "/ends") as visitor:
        assert read_all(visitor) == b""
        wait_for(lambda: free.connections == 0)  # though this side is still open


def test_a_visitor_who_does_not_read_holds_back_the_viewer(free: Gate, inner: Inner) -> None:
    with websocket(free, "/flood") as visitor:
        seen = -1
        while seen != inner.flooded:
            seen = inner.flooded
            time.sleep(0.3)
        assert inner.flooded < FLOOD_BYTES / 2
        assert visitor.recv(10) == bytes(10)


def test_the_page_of_another_site_cannot_open_a_websocket(free: Gate, locked: Gate, inner: Inner) -> None:
    for gate in (free, locked):
        for origin in ("http://elsewhere.example", f"http://127.0.0.1:{gate.port + 1}", "null", "http://127.0.0.1"):
            more = f"{UPGRADE}Origin: {origin}\r\n{cookie(gate)}"
            assert ask(gate, head(gate, f"/?token={TOKEN}", more))[0] == 403
        assert inner.heads == []
    for gate in (free, locked):
        websocket(gate, "/", f"Origin: http://127.0.0.1:{gate.port}\r\n{cookie(gate)}").close()


def test_a_foreign_name_for_this_machine_needs_the_token(free: Gate, locked: Gate, inner: Inner) -> None:
    for host in ("elsewhere.example", f"elsewhere.example:{free.port}", "127.0.0.1.elsewhere.example", "10.0.0.1"):
        assert ask(free, head(free, host=host))[0] == 403
        assert ask(free, head(free, "/", UPGRADE, host=host))[0] == 403
    assert inner.heads == []
    for host in ("localhost", f"LocalHost:{free.port}", "[::1]:80", "127.0.0.1"):
        assert ask(free, head(free, host=host))[0] == 200
    assert ask(locked, head(locked, "/", cookie(locked), host="city.example"))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "CONNECT", "get"])
def test_pages_are_only_read(free: Gate, inner: Inner, method: str) -> None:
    status, said = ask(free, head(free, "/", "Content-Length: 200000\r\n", method) + bytes(200_000))
    assert status == 405
    assert "\r\nAllow: GET, HEAD\r\n" in said
    assert inner.heads == []
    assert ask(free, head(free, method="HEAD"))[0] == 200


def test_a_visitor_who_still_talks_is_not_cut_off_from_the_answer(free: Gate) -> None:
    with connect(free) as visitor:
        visitor.sendall(head(free, method="POST"))
        assert read_until(visitor, b"read here.\n").startswith(b"HTTP/1.1 405 ")
        for _ in range(5):
            visitor.sendall(b"more")  # a closed connection would be reset by this
            time.sleep(0.01)
        visitor.shutdown(socket.SHUT_WR)
        assert read_all(visitor) == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\xff\x00\r\n\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nName without colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: 1\nConnection: keep-alive\r\n\r\n",
        b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_garbage_ends_its_connection_only(free: Gate, inner: Inner, garbage: bytes) -> None:
    with websocket(free) as other:
        heads = list(inner.heads)
        assert ask(free, garbage)[0] == 400
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"
    assert inner.heads == heads


def test_a_head_without_end_ends_its_connection_only(free: Gate) -> None:
    with websocket(free) as other:
        for size in (gate_module.HEAD_BYTES + 100, 1 << 18):
            with connect(free) as visitor:
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * size)
                assert read_until(visitor, b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
        assert ask(free, head(free, "/", f"A: {'a' * 15000}\r\n"))[0] == 200
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"


def test_silence_ends_its_connection_only(free: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "HEAD_SECONDS", 0.1)
    with websocket(free) as other:
        for start in (b"", b"GET / HT"):
            with connect(free) as visitor:
                visitor.sendall(start)
                assert read_all(visitor) == b""
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"


def test_a_second_request_on_one_connection_is_not_forwarded(free: Gate, inner: Inner) -> None:
    second = head(free, "/second")
    for more in ("Connection: keep-alive\r\n", "CONNECTION : Keep-Alive\r\n".replace(" :", ":"), ""):
        assert ask(free, head(free, "/", more) + second)[0] == 200
        assert re.findall(rb"(?i)\r\nconnection: *([^\r]*)", inner.heads[-1]) == [b"close"]
    with connect(free) as visitor:
        visitor.sendall(head(free))
        read_until(visitor, b"inner")
        visitor.sendall(second)
        read_all(visitor)
    with connect(free) as visitor:  # a refused websocket is but a page
        visitor.sendall(head(free, "/refused", UPGRADE))
        read_until(visitor, b"inner")
        visitor.sendall(second)
        read_all(visitor)
    assert len(inner.heads) == 5
    assert inner.later == b""


def test_headers_pass_as_they_came(free: Gate, inner: Inner) -> None:
    more = "X-Odd:no space\r\nCookie: a=b; token=c\r\nAccept-Encoding:  gzip \r\nX-Odd: \xe9\r\n"
    ask(free, head(free, "/x?token=c", more))
    assert inner.heads == [head(free, "/x?token=c", more + "Connection: close\r\n").decode().encode("utf-8")]


def test_a_viewer_that_does_not_answer_is_told(free: Gate) -> None:
    assert ask(free, head(free, "/dumb"))[0] == 502
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with Gate("127.0.0.1", 0, port, None) as gate:
        assert ask(gate, head(gate))[0] == 502
        assert ask(gate, head(gate, "/", UPGRADE))[0] == 502


def test_a_viewer_that_stalls_is_told_or_cut_off(free: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "STALL_SECONDS", 0.1)
    assert ask(free, head(free, "/held"))[0] == 502
    assert ask(free, head(free))[1].endswith("inner")
    wait_for(lambda: free.connections == 0)


def test_a_visitor_who_vanishes_frees_the_connection(free: Gate) -> None:
    visitors = [websocket(free), connect(free), connect(free)]
    visitors[2].sendall(b"GET / HT")
    wait_for(lambda: free.connections == 3)
    for visitor in visitors:
        # Not a farewell but a reset, as of a crashed machine.
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        visitor.close()
    wait_for(lambda: free.connections == 0)
    visitors = [websocket(free), connect(free)]
    wait_for(lambda: free.connections == 2)
    for visitor in visitors:
        visitor.close()
    wait_for(lambda: free.connections == 0)


def test_a_visitor_who_leaves_while_the_viewer_thinks_frees_the_connection(free: Gate, inner: Inner) -> None:
    with connect(free) as visitor:
        visitor.sendall(head(free, "/held"))
        wait_for(lambda: len(inner.heads) == 1)
    inner.released.set()
    wait_for(lambda: free.connections == 0)


def test_connections_are_limited(free: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "MOST_CONNECTIONS", 2)
    with websocket(free), connect(free) as idle:
        wait_for(lambda: free.connections == 2)
        with connect(free) as visitor:
            assert read_until(visitor, b"later").startswith(b"HTTP/1.1 503 ")
        idle.close()
        wait_for(lambda: free.connections == 1)
        assert ask(free, head(free))[0] == 200


def test_a_port_in_use_is_told(free: Gate) -> None:
    with pytest.raises(RunError, match=rf"^view: port {free.port} of 127\.0\.0\.1 is in use; give another --port"):
        Gate("127.0.0.1", free.port, 1, None).start()
    with pytest.raises(RunError, match=r"^view: --port 70000 is not 0 to 65535; give another$"):
        Gate("127.0.0.1", 70000, 1, None).start()
    with pytest.raises(RunError, match=r"^view: port 0 of 203\.0\.113\.1 cannot be opened \(.*\); give another --port"):
        Gate("203.0.113.1", 0, 1, TOKEN).start()


def test_addresses_open_to_others_need_a_token() -> None:
    for host in ("127.0.0.1", "127.8.0.1", "localhost", "::1"):
        check_binding(host, None)
        check_binding(host, TOKEN)
    for host in ("0.0.0.0", "::", "", "192.168.0.7", "city.example"):
        check_binding(host, TOKEN)
        with pytest.raises(RunError, match=f"^view: --host {host} lets anyone in; give --token too"):
            check_binding(host, None)
        with pytest.raises(RunError, match="lets anyone in"):
            Gate(host, 0, 1, None)
    assert is_loopback("LOCALHOST")
    assert not is_loopback("localhost.example")


@pytest.mark.parametrize("token", ["", "short-7", "with space", "ümlauts-too", f"{TOKEN}\n", "semicolon;", "a&b=cdefg"])
def test_unfit_tokens_are_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(RunError, match=r"^view: --token is not at least 8 letters") as refusal:
        check_binding("127.0.0.1", token)
    assert not token or token not in str(refusal.value)


def test_the_address_is_the_one_to_open(free: Gate, locked: Gate) -> None:
    assert free.url == f"http://127.0.0.1:{free.port}/"
    assert locked.url == f"http://127.0.0.1:{locked.port}/?token={TOKEN}"
    assert Gate("::1", 80, 1, None).url == "http://[::1]:80/"
    assert Gate("0.0.0.0", 80, 1, TOKEN).url == f"http://{socket.gethostname()}:80/?token={TOKEN}"


def test_localhost_is_open_to_a_visitor(inner: Inner) -> None:
    with Gate("localhost", 0, inner.server_address[1], None) as gate:
        assert ask(gate, head(gate, host=f"localhost:{gate.port}"))[0] == 200


def test_stopping_ends_everything(inner: Inner, capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    gate = Gate("127.0.0.1", 0, inner.server_address[1], None)
    gate.stop()
    gate.start()
    (thread,) = {thread for thread in set(threading.enumerate()) - before if thread.daemon}
    with websocket(gate) as first, websocket(gate, "/flood") as second, connect(gate) as third:
        third.sendall(b"GET / HT")
        wait_for(lambda: gate.connections == 3)
        start = time.monotonic()
        gate.stop()
        gate.stop()
        assert time.monotonic() - start < 2
        assert not thread.is_alive()
        assert gate.connections == 0
        assert read_all(first) == b""
        assert third.recv(1) == b""
        second.close()
    with pytest.raises(ConnectionRefusedError):
        connect(gate)
    del first, second, third
    gc.collect()  # what was left open would warn now, and warnings are errors
    assert capfd.readouterr() == ("", "")
    gate.start()
    assert ask(gate, head(gate))[0] == 200
    gate.stop()


def test_stopping_while_visitors_come_leaves_nothing_open(inner: Inner, capfd: pytest.CaptureFixture[str]) -> None:
    for wait in (0, 0, 0, 0.001, 0.01):
        gate = Gate("127.0.0.1", 0, inner.server_address[1], None)
        gate.start()
        visitors = [connect(gate) for _ in range(20)]
        for visitor in visitors:
            visitor.sendall(head(gate, "/", UPGRADE))
        time.sleep(wait)
        gate.stop()
        for visitor in visitors:
            visitor.close()
        gc.collect()
    assert capfd.readouterr() == ("", "")


def test_the_real_viewer_is_reached(capfd: pytest.CaptureFixture[str]) -> None:
    viser = pytest.importorskip("viser", reason="needs the extra that the viewer is served with")
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        with Gate("127.0.0.1", 0, server.get_port(), TOKEN) as gate:
            assert ask(gate, head(gate))[0] == 403
            status, page = ask(gate, head(gate, "/", cookie(gate)))
            assert status == 200
            assert "<html" in page
            offer = (
                f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Protocol: viser-v{viser.__version__}\r\nOrigin: http://127.0.0.1:{gate.port}\r\n"
            )
            with websocket(gate, "/", offer + cookie(gate)) as visitor:
                assert visitor.recv(2)[0] == 0x82  # a whole binary frame
            wait_for(lambda: gate.connections == 0)
    finally:
        server.stop()
