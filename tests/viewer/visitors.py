"""Visitors of a gate, socket by socket, and what stands for the viewer behind it."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from viewer.auth_proxy import AuthProxy

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


def frame(payload: bytes, head: int = 0x82) -> bytes:
    """A websocket frame as a page sends it, masked with zeros; by default a whole binary message."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFF]) + size.to_bytes(8, "big")
    return bytes([head]) + length + bytes(4) + payload


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
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.005)


def connect_to(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=15)


def connect(gate: AuthProxy) -> socket.socket:
    return connect_to(gate.port)


def head(gate: AuthProxy, target: str = "/", more: str = "", method: str = "GET", host: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host or f'127.0.0.1:{gate.port}'}\r\n{more}\r\n".encode()


def ask(gate: AuthProxy, request: bytes) -> tuple[int, str]:
    """Status and everything that was said, up to the end of the connection."""
    with connect(gate) as visitor:
        visitor.sendall(request)
        said = read_all(visitor).decode()
    return int(said.split()[1]), said


def cookie(gate: AuthProxy, token: str = TOKEN) -> str:
    return f"Cookie: other=1; blocknerf_token_{gate.port}={token}\r\n"


def websocket(gate: AuthProxy, target: str = "/", more: str = "") -> socket.socket:
    visitor = connect(gate)
    visitor.sendall(head(gate, target, UPGRADE + more))
    assert read_until(visitor, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    return visitor
