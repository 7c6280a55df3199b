"""The only door to the viewer: who may enter, and the bytes of those who may."""

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
IDLE_TIMEOUT = 60.0  # how long a page may take to begin, to go on, or to be taken
HALF_CLOSE_TIMEOUT = 5.0  # how long one direction may outlast the other
LOOPBACK = "127.0.0.1"
# Never two slashes at the beginning of the path: a redirect there would lead to another host.
REQUEST_LINE = re.compile(r"([A-Za-z-]+) (/(?![/\\])[!-~]*) HTTP/1\.1")
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
PASS = "X-Blocknerf-Gate"  # the header with the secret that the inner server asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The head of a request for a page or a websocket, its headers as they came."""

    method: str
    target: str
    headers: tuple[str, ...]

    def values(self, name: str) -> list[str]:
        """What the headers of that name, in small letters, say."""
        return [line.partition(":")[2].strip() for line in self.headers if line.lower().startswith(f"{name}:")]

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for a websocket."""
        return any("websocket" in value.lower() for value in self.values("upgrade"))

    def encoded(self, secret: str = "") -> bytes:
        """The head for the viewer; that of a page asks it to close, since later requests would pass unseen."""
        dropped = (PASS.lower(),) if self.is_upgrade else (PASS.lower(), "connection")
        kept = [line for line in self.headers if line.partition(":")[0].lower() not in dropped]
        added = [*([] if self.is_upgrade else ["Connection: close"]), *([f"{PASS}: {secret}"] if secret else [])]
        return "\r\n".join([f"{self.method} {self.target} HTTP/1.1", *kept, *added, "", ""]).encode("latin-1")


def parse_request(head: bytes) -> Request | None:
    """The request of a head with its empty line; None where it is none of HTTP/1.1, or does not name one host."""
    first, *headers = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = REQUEST_LINE.fullmatch(first)
    if line is None or not all(HEADER.fullmatch(header) for header in headers):
        return None
    request = Request(method=line[1], target=line[2], headers=tuple(headers))
    return request if len(hosts := request.values("host")) == 1 and HOST.fullmatch(hosts[0].lower()) else None


def contains_secret(parts: list[str], secret: str) -> bool:
    """Whether one of the parts is the secret, in a time that does not tell how much of it is right."""
    return any(hmac.compare_digest(part.encode("latin-1"), secret.encode("latin-1")) for part in parts)


def http_response(status: str, text: str, *headers: str) -> bytes:
    """What the gate itself says to a visitor, after which it closes the connection."""
    fixed = f"Content-Length: {len(text)}", "Content-Type: text/plain", "Cache-Control: no-store", "Connection: close"
    return "\r\n".join([f"HTTP/1.1 {status}", *fixed, *headers, "", text]).encode()


def authorize(request: Request | None, token: str | None, cookie: str) -> bytes | None:
    """What to answer instead of the viewer; None lets the visitor in. `cookie` is the name of that with the token."""
    if request is None:
        return http_response("400 Bad Request", "This is not a request for a page.\n")
    if request.method not in ("GET", "HEAD"):
        return http_response("405 Method Not Allowed", "Pages are only read here.\n", "Allow: GET, HEAD")
    host = request.values("host")[0].lower()
    origins = {origin.partition("://")[2].lower() for origin in request.values("origin")}
    if request.is_upgrade and origins - {host}:
        return http_response("403 Forbidden", "The page of another site may not use this viewer.\n")
    strange = http_response(
        "403 Forbidden", "Paste the whole address that `blocknerf view` printed into the address bar.\n"
    )
    if token is None:
        # A name of another site that leads here: its page would read as its own what this machine shows.
        return None if is_loopback(HOST.sub(r"\1", host).strip("[]")) else strange
    path, _, query = request.target.partition("?")
    if contains_secret(query.split("&"), f"token={token}"):
        rest = "&".join(part for part in query.split("&") if not part.startswith("token="))
        held = f"Set-Cookie: {cookie}={token}; HttpOnly; SameSite=Strict; Path=/"
        location = f"Location: {path}{rest and '?'}{rest}"
        return None if request.is_upgrade else http_response("303 See Other", "", location, held)
    cookies = [part.strip() for value in request.values("cookie") for part in value.split(";")]
    return None if contains_secret(cookies, f"{cookie}={token}") else strange


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached under that name or address."""
    with contextlib.suppress(ValueError):
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    return False


def check_binding(host: str, token: str | None) -> None:
    """Refuse an address open to others without a token, and a token that is weak or unfit for an address.

    Raises:
        RunError: saying what to give.
    """
    if token is None and not is_loopback(host):
        raise RunError(f"view: --host {host} lets anyone in; give --token too, which visitors then need")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{8,}", token):
        raise RunError("view: --token is not at least 8 letters, digits, '-' and '_'; give another")


class AuthProxy:
    """A server in a thread of its own, on a port or any (0), that pipes to the viewer's what `authorize` lets through."""

    def __init__(self, host: str, port: int, inner_port: int, token: str | None, secret: str = "") -> None:
        """`secret` is what the viewer's server asks of every request (`viewer.inner`)."""
        check_binding(host, token)
        self.host, self.port, self._inner, self._token = host, port, (LOOPBACK, inner_port), token
        self._secret = secret
        self._visits: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address to open, with the token where there is one."""
        name = socket.gethostname() if self.host in ("", "0.0.0.0", "::") else self.host
        place = f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"
        return place if self._token is None else f"{place}?token={self._token}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._visits)

    def start(self) -> None:
        """Open the port.

        Raises:
            RunError: it is in use, or cannot be opened.
        """
        host, ready = LOOPBACK if self.host.lower() == "localhost" else self.host, threading.Event()
        try:
            door = socket.create_server((host, self.port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as fault:
            reason = "is in use" if fault.errno == errno.EADDRINUSE else f"cannot be opened ({fault.strerror})"
            raise RunError(f"view: port {self.port} of {host} {reason}; give another --port, or 0 for any") from None
        self.port = door.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._keep(door, ready)), daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Close the port and every connection, and wait for the thread; without effect where it does not run."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> "AuthProxy":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    async def _keep(self, door: socket.socket, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        server = await asyncio.start_server(self._enter, sock=door, limit=HEAD_BYTES)
        await self._stopping.wait()
        self._loop.remove_reader(door)  # first, since `close` would leave open what is just being accepted
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for visit in self._visits:  # again, since before Python 3.12 `wait_for` may lose a cancellation
                visit.cancel()
            await asyncio.wait(others, timeout=0.1)
        server.close()

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopping.is_set() or self.connections >= MAX_CONNECTIONS:
            writer.write(http_response("503 Service Unavailable", "Too many visitors; try again later.\n"))
            return writer.close()
        visit = self._loop.create_task(self._visit(reader, writer))
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its head to its end; a visitor who is silent or gone needs no answer."""
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError):
                writer.transport.set_write_buffer_limits(0)  # so that `drain` waits until all is sent
                await self._serve(reader, writer)
                writer.write_eof()
                # Closing with bytes unread would take from the visitor what was just sent.
                await asyncio.wait_for(reader.readexactly(4 * CHUNK_BYTES), HALF_CLOSE_TIMEOUT)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = parse_request(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS))
        except asyncio.LimitOverrunError:
            return await _send(
                writer, http_response("431 Request Header Fields Too Large", "This request is too long.\n")
            )
        refusal = authorize(request, self._token, f"blocknerf_token_{self.port}")
        if request and not refusal:
            return await self._forward(request, reader, writer)
        await _send(writer, refusal or b"")

    async def _forward(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the viewer says, and to a websocket what the visitor says."""
        with contextlib.ExitStack() as stack:
            try:
                far_reader, far_writer = await asyncio.wait_for(asyncio.open_connection(*self._inner), IDLE_TIMEOUT)
                stack.callback(far_writer.transport.abort)
                far_writer.transport.set_write_buffer_limits(0)
                await _send(far_writer, request.encoded(self._secret))
                status = await asyncio.wait_for(far_reader.readuntil(b"\n"), IDLE_TIMEOUT)
            except (OSError, EOFError, asyncio.TimeoutError, asyncio.LimitOverrunError):
                return await _send(writer, http_response("502 Bad Gateway", "The viewer does not answer.\n"))
            await _send(writer, status)
            # A refused websocket is a page like any other: no second request may follow it either.
            if not request.is_upgrade or status.split()[1:2] != [b"101"]:
                await _pipe(far_reader, writer, IDLE_TIMEOUT)
                return
            inward, outward = _pipe(reader, far_writer, meter=FrameSizeLimiter()), _pipe(far_reader, writer)
            pipes = [asyncio.create_task(inward), asyncio.create_task(outward)]
            try:
                ended, _ = await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
                if all(pipe.result() for pipe in ended):
                    await asyncio.wait(pipes, timeout=HALF_CLOSE_TIMEOUT)
            finally:
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.wait(pipes, timeout=HALF_CLOSE_TIMEOUT)


async def _pipe(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    silence: float | None = None,
    meter: FrameSizeLimiter | None = None,
) -> bool:
    """Bytes one way, with their end unless they break off (False).

    `silence` is how many seconds it may last. A `meter` holds back bytes that come too fast, which in time holds back
    who sends them. Bytes with a message that is too long, or so many that they would be held back longer than
    `IDLE_TIMEOUT`, are not passed on, and nothing after them.
    """
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        while chunk := await asyncio.wait_for(reader.read(CHUNK_BYTES), silence):
            if meter is not None:
                fits, delay = meter.accept(chunk), meter.delay(time.monotonic())
                if not fits or delay > IDLE_TIMEOUT:
                    return False
                await asyncio.sleep(delay)
            await _send(writer, chunk)
        writer.write_eof()
        return True
    return False


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await asyncio.wait_for(writer.drain(), IDLE_TIMEOUT)
