"""Raw sockets as clients of the proxy, and a stub for the viewer behind it."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from viewer.auth_proxy import AuthProxy

TOKEN = "a-good_Token1"
FLOOD_BYTES = 64 << 20
HANDSHAKE = f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = f"Upgrade: websocket\r\nConnection: Upgrade\r\n{HANDSHAKE}"


class StubServer(socketserver.ThreadingTCPServer):
    """Stub for viser: records request heads, echoes on a websocket, and never closes a page by itself."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.later = b""
        """Bytes after the first request of a page."""
        self.flooded = 0
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), StubHandler)


class StubHandler(socketserver.BaseRequestHandler):
    server: StubServer
    request: socket.socket

    def handle(self) -> None:
        with suppress(OSError, AssertionError):  # some tests close the proxy first
            self.respond()

    def respond(self) -> None:
        head, _, rest = read_until(self.request, b"\r\n\r\n").partition(b"\r\n\r\n")
        self.server.heads.append(head + b"\r\n\r\n")
        target = head.split(b" ")[1]
        if target.startswith(b"/silent"):
            return
        if target.startswith(b"/half"):
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ninner")
            self.server.released.wait(20)
        if target.startswith(b"/large"):
            self.request.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {FLOOD_BYTES}\r\n\r\n".encode())
            self.request.sendall(bytes(FLOOD_BYTES))
        if target.startswith(b"/delayed"):
            self.server.released.wait(20)
        if b"upgrade: websocket" not in head.lower() or target.startswith(b"/refused"):
            content = b"" if head.startswith(b"HEAD ") else b"inner"
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + content)
            self.request.settimeout(0.2)
            with suppress(TimeoutError):
                while data := rest or self.request.recv(1 << 16):
                    self.server.later, rest = self.server.later + data, b""
            return
        self.respond_on_websocket(head + b"\r\n\r\n" + rest, target)

    def respond_on_websocket(self, data: bytes, target: bytes) -> None:
        """Echo each message until the client closes the websocket, or flood it, or end immediately."""
        websocket = ServerProtocol(max_size=None)
        websocket.receive_data(data)
        (request,) = websocket.events_received()
        assert isinstance(request, Request)
        websocket.send_response(websocket.accept(request))
        self.request.sendall(b"".join(websocket.data_to_send()))
        while target.startswith(b"/flood") and self.server.flooded < FLOOD_BYTES:
            websocket.send_binary(bytes(1 << 16))
            self.request.sendall(b"".join(websocket.data_to_send()))
            self.server.flooded += 1 << 16
        while not target.startswith(b"/ends") and (data := self.request.recv(1 << 16)):
            websocket.receive_data(data)
            for message in websocket.events_received():
                if isinstance(message, Frame) and message.opcode is Opcode.BINARY:
                    websocket.send_binary(message.data)
            self.request.sendall(b"".join(websocket.data_to_send()))


def message(text: str) -> bytes:
    """Return a message of viser's protocol."""
    return msgspec.msgpack.encode({"type": text})


def frame(payload: bytes, head: int = 0x82) -> bytes:
    """Return a websocket frame as a page sends it, masked with zeros; by default a whole binary message."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFF]) + size.to_bytes(8, "big")
    return bytes([head]) + length + bytes(4) + payload


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def read_until(client: socket.socket, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        more = client.recv(1 << 16)
        assert more, f"ended after {data!r}"
        data += more
    return data


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition was never met"
        time.sleep(0.005)


def connect_to(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=15)


def connect(proxy: AuthProxy) -> socket.socket:
    return connect_to(proxy.port)


def head(proxy: AuthProxy, target: str = "/", headers: str = "", method: str = "GET", host: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host or f'127.0.0.1:{proxy.port}'}\r\n{headers}\r\n".encode()


def send_request(proxy: AuthProxy, request: bytes) -> tuple[int, str]:
    """Return the status and the whole response, up to the end of the connection."""
    with connect(proxy) as client:
        client.sendall(request)
        response = read_all(client).decode()
    return int(response.split()[1]), response


def cookie(proxy: AuthProxy, token: str = TOKEN) -> str:
    return f"Cookie: other=1; blocknerf_token_{proxy.port}={token}\r\n"


def headers(head: bytes) -> list[tuple[str, str]]:
    """Return the headers of a request head, with names in lower case."""
    lines = [line.partition(":") for line in head.decode().split("\r\n")[1:] if line]
    return [(name.lower(), value.strip()) for name, _, value in lines]


def open_websocket(proxy: AuthProxy, target: str = "/", headers: str = "") -> socket.socket:
    client = connect(proxy)
    client.sendall(head(proxy, target, UPGRADE + headers))
    assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    return client
