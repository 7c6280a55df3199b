"""Token-checking reverse proxy in front of viser, and the only public port of the viewer."""

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import re
import socket
import threading
import time
from dataclasses import dataclass

from blocknerf.errors import RunError
from viewer.frame_limit import FrameSizeLimiter

HEAD_BYTES, HEAD_SECONDS, CHUNK_BYTES = 16 << 10, 10.0, 64 << 10
MAX_CONNECTIONS = 256
IDLE_TIMEOUT = 60.0  # seconds to wait for a connect, a first byte, the next byte of a page, or a write
HALF_CLOSE_TIMEOUT = 5.0  # seconds that one direction may stay open after the other
LOOPBACK = "127.0.0.1"
# The path never starts with two slashes: a redirect to it would lead to another host.
REQUEST_LINE = re.compile(r"([A-Za-z-]+) (/(?![/\\])[!-~]*) HTTP/1\.1")
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
SECRET_HEADER = "X-Blocknerf-Proxy"  # carries the secret that the inner server requires


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Head of an HTTP or websocket request, with its header lines unchanged."""

    method: str
    target: str
    headers: tuple[str, ...]

    def values(self, name: str) -> list[str]:
        """Return the values of all headers with a name, given in lower case."""
        return [line.partition(":")[2].strip() for line in self.headers if line.lower().startswith(f"{name}:")]

    @property
    def is_upgrade(self) -> bool:
        """Whether the request upgrades to a websocket."""
        return any("websocket" in value.lower() for value in self.values("upgrade"))

    def encode(self, secret: str = "") -> bytes:
        """Return the head to forward. A page request asks for `close`: later requests would bypass the check."""
        removed = (SECRET_HEADER.lower(),) if self.is_upgrade else (SECRET_HEADER.lower(), "connection")
        kept = [line for line in self.headers if line.partition(":")[0].lower() not in removed]
        added = [
            *([] if self.is_upgrade else ["Connection: close"]),
            *([f"{SECRET_HEADER}: {secret}"] if secret else []),
        ]
        return "\r\n".join([f"{self.method} {self.target} HTTP/1.1", *kept, *added, "", ""]).encode("latin-1")


def parse_request(head: bytes) -> Request | None:
    """Parse a request head, including its empty line. None if it is not HTTP/1.1 with exactly one valid host."""
    first, *headers = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = REQUEST_LINE.fullmatch(first)
    if line is None or not all(HEADER.fullmatch(header) for header in headers):
        return None
    request = Request(method=line[1], target=line[2], headers=tuple(headers))
    return request if len(hosts := request.values("host")) == 1 and HOST.fullmatch(hosts[0].lower()) else None


def contains_secret(parts: list[str], secret: str) -> bool:
    """Whether one of the parts equals the secret, compared in constant time."""
    return any(hmac.compare_digest(part.encode("latin-1"), secret.encode("latin-1")) for part in parts)


def http_response(status: str, text: str, *headers: str) -> bytes:
    """Return a plain-text response of the proxy itself; the connection closes after it."""
    fixed = f"Content-Length: {len(text)}", "Content-Type: text/plain", "Cache-Control: no-store", "Connection: close"
    return "\r\n".join([f"HTTP/1.1 {status}", *fixed, *headers, "", text]).encode()


def authorize(request: Request | None, token: str | None, cookie: str) -> bytes | None:
    """Return the response that refuses or redirects a request; None forwards it.

    `cookie` is the name of the cookie that holds the token.
    """
    if request is None:
        return http_response("400 Bad Request", "This is not a valid HTTP/1.1 request.\n")
    if request.method not in ("GET", "HEAD"):
        return http_response("405 Method Not Allowed", "This server accepts only GET and HEAD.\n", "Allow: GET, HEAD")
    host = request.values("host")[0].lower()
    origins = {origin.partition("://")[2].lower() for origin in request.values("origin")}
    if request.is_upgrade and origins - {host}:
        return http_response("403 Forbidden", "Pages of other sites may not use this viewer.\n")
    forbidden = http_response("403 Forbidden", "Open the whole URL that `blocknerf view` printed.\n")
    if token is None:
        # A foreign name that resolves to this machine (DNS rebinding): its pages could read the viewer's content.
        return None if is_loopback(HOST.sub(r"\1", host).strip("[]")) else forbidden
    path, _, query = request.target.partition("?")
    if contains_secret(query.split("&"), f"token={token}"):
        rest = "&".join(part for part in query.split("&") if not part.startswith("token="))
        set_cookie = f"Set-Cookie: {cookie}={token}; HttpOnly; SameSite=Strict; Path=/"
        location = f"Location: {path}{rest and '?'}{rest}"
        return None if request.is_upgrade else http_response("303 See Other", "", location, set_cookie)
    cookies = [part.strip() for value in request.values("cookie") for part in value.split(";")]
    return None if contains_secret(cookies, f"{cookie}={token}") else forbidden


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reachable from this machine only."""
    with contextlib.suppress(ValueError):
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    return False


def check_binding(host: str, token: str | None) -> None:
    """Raise if a public address has no token, or if a token is short or not URL-safe.

    Raises:
        RunError: The message names the option to change.
    """
    if token is None and not is_loopback(host):
        raise RunError(f"view: --host {host} is open to other machines; add --token, which visitors then need")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{8,}", token):
        raise RunError("view: --token is not 8 or more letters, digits, '-' and '_'; choose another")


class AuthProxy:
    """Server in its own thread that forwards requests to the inner server if `authorize` accepts them."""

    def __init__(self, host: str, port: int, inner_port: int, token: str | None, secret: str = "") -> None:
        """Check the address and the token; `start` opens the port, where 0 means any free one.

        `secret` is what the inner server requires of every request (`viewer.inner`).
        """
        check_binding(host, token)
        self.host, self.port, self._inner_address, self._token = host, port, (LOOPBACK, inner_port), token
        self._secret = secret
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL to open, including the token if there is one."""
        name = socket.gethostname() if self.host in ("", "0.0.0.0", "::") else self.host
        url = f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"
        return url if self._token is None else f"{url}?token={self._token}"

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._tasks)

    def start(self) -> None:
        """Open the port.

        Raises:
            RunError: The port is in use or cannot be opened.
        """
        host, ready = LOOPBACK if self.host.lower() == "localhost" else self.host, threading.Event()
        try:
            listener = socket.create_server(
                (host, self.port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
            )
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
            raise RunError(
                f"view: port {self.port} of {host} {reason}; choose another --port, or 0 for any free one"
            ) from None
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve_forever(listener, ready)), daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Close the port and every connection, and wait for the thread. Does nothing if it is not running."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> "AuthProxy":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    async def _serve_forever(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        server = await asyncio.start_server(self._accept, sock=listener, limit=HEAD_BYTES)
        await self._stopping.wait()
        self._loop.remove_reader(listener)  # first: `close` would leak a connection that is being accepted
        while pending := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._tasks:  # in every round: before Python 3.12 `wait_for` may lose a cancellation
                task.cancel()
            await asyncio.wait(pending, timeout=0.1)
        server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopping.is_set() or self.connections >= MAX_CONNECTIONS:
            writer.write(http_response("503 Service Unavailable", "Too many visitors; try again later.\n"))
            return writer.close()
        task = self._loop.create_task(self._handle(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends. A silent or vanished client gets no response."""
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError):
                writer.transport.set_write_buffer_limits(0)  # makes `drain` wait until everything is sent
                await self._answer(reader, writer)
                writer.write_eof()
                # Closing with unread bytes would reset the connection and drop what was just sent.
                await asyncio.wait_for(reader.readexactly(4 * CHUNK_BYTES), HALF_CLOSE_TIMEOUT)
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = parse_request(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS))
        except asyncio.LimitOverrunError:
            return await _send(
                writer, http_response("431 Request Header Fields Too Large", "The request header is too long.\n")
            )
        refusal = authorize(request, self._token, f"blocknerf_token_{self.port}")
        if request and not refusal:
            return await self._forward(request, reader, writer)
        await _send(writer, refusal or b"")

    async def _forward(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward the response; for a websocket, copy both directions."""
        with contextlib.ExitStack() as stack:
            try:
                inner_reader, inner_writer = await asyncio.wait_for(
                    asyncio.open_connection(*self._inner_address), IDLE_TIMEOUT
                )
                stack.callback(inner_writer.transport.abort)
                inner_writer.transport.set_write_buffer_limits(0)
                await _send(inner_writer, request.encode(self._secret))
                status = await asyncio.wait_for(inner_reader.readuntil(b"\n"), IDLE_TIMEOUT)
            except (OSError, EOFError, asyncio.TimeoutError, asyncio.LimitOverrunError):
                return await _send(writer, http_response("502 Bad Gateway", "The viewer does not respond.\n"))
            await _send(writer, status)
            # A refused websocket is an ordinary page: no second request may follow it either.
            if not request.is_upgrade or status.split()[1:2] != [b"101"]:
                await _copy_stream(inner_reader, writer, IDLE_TIMEOUT)
                return
            upstream, downstream = (
                _copy_stream(reader, inner_writer, limiter=FrameSizeLimiter()),
                _copy_stream(inner_reader, writer),
            )
            copies = [asyncio.create_task(upstream), asyncio.create_task(downstream)]
            try:
                ended, _ = await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
                if all(copy.result() for copy in ended):
                    await asyncio.wait(copies, timeout=HALF_CLOSE_TIMEOUT)
            finally:
                for copy in copies:
                    copy.cancel()
                await asyncio.wait(copies, timeout=HALF_CLOSE_TIMEOUT)


async def _copy_stream(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    timeout: float | None = None,
    limiter: FrameSizeLimiter | None = None,
) -> bool:
    """Copy one direction until its end and pass the end on. Return False if it breaks off.

    `timeout` limits each read, in seconds. A `limiter` delays bytes that arrive too fast, which slows down the sender.
    Copying stops before a message that is too long, and before bytes that would be delayed longer than `IDLE_TIMEOUT`.
    """
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        while chunk := await asyncio.wait_for(reader.read(CHUNK_BYTES), timeout):
            if limiter is not None:
                accepted, delay = limiter.accept(chunk), limiter.delay(time.monotonic())
                if not accepted or delay > IDLE_TIMEOUT:
                    return False
                await asyncio.sleep(delay)
            await _send(writer, chunk)
        writer.write_eof()
        return True
    return False


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await asyncio.wait_for(writer.drain(), IDLE_TIMEOUT)
