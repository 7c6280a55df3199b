"""Token-checking reverse proxy in front of viser, and the only public port of the viewer."""

import asyncio
import errno
import logging
import socket
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any

import aiohttp
import msgspec
from aiohttp import WSCloseCode, WSMsgType, web
from multidict import CIMultiDict
from yarl import URL

from blocknerf.errors import RunError
from viewer.access import LOOPBACK, Refusal, Request, authorize, check_binding
from viewer.inner import SECRET_HEADER
from viewer.message_filter import MAX_MESSAGE, MessageFilter

HEAD_BYTES, HEAD_SECONDS = 16 << 10, 10.0  # longest line of a request head; time from connecting to its end
MAX_CONNECTIONS = 256
SPARE_CONNECTIONS = 32  # further connections, which get a response that says why they are refused
IDLE_TIMEOUT = 60.0  # seconds to wait for a connect, the next byte of a page, or a write
HALF_CLOSE_TIMEOUT = 5.0  # seconds that one direction may stay open after the other
HEARTBEAT = 30.0  # seconds between pings; a page that does not answer within half of that has gone
# Headers of one connection, which the client of the inner server writes itself.
HOP_HEADERS = ("Connection", "Upgrade", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding")
REQUEST_HEADERS = (*HOP_HEADERS, "Content-Length", "Expect", SECRET_HEADER)
WEBSOCKET_HEADERS = tuple(f"Sec-WebSocket-{name}" for name in ("Key", "Version", "Extensions", "Protocol"))
FAILURES = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class AuthProxy:
    """Server in its own thread that forwards requests to the inner server if `authorize` accepts them."""

    def __init__(self, host: str, port: int, inner_port: int, token: str | None, secret: str = "") -> None:
        """Check the address and the token; `start` opens the port, where 0 means any free one.

        `secret` is what the inner server requires of every request (`viewer.inner`).
        """
        check_binding(host, token)
        self.host, self.port, self.inner_port, self._token = host, port, inner_port, token
        self._secret = secret
        self._thread: threading.Thread | None = None
        self._server: web.Server | None = None

    @property
    def url(self) -> str:
        """The URL to open, including the token if there is one."""
        name = socket.gethostname() if self.host in ("", "0.0.0.0", "::") else self.host
        url = f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"
        return url if self._token is None else f"{url}?token={self._token}"

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return 0 if self._server is None else len(self._server.connections)

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
            self._thread = self._server = None

    def __enter__(self) -> "AuthProxy":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    async def _serve_forever(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # what is wrong with a request is said in its response
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=IDLE_TIMEOUT, sock_read=IDLE_TIMEOUT)
        async with aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),  # visitors must not get each other's cookies
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        ) as self._client:
            self._server = web.Server(
                self._respond,
                handler_cancellation=True,
                access_log=None,
                auto_decompress=False,
                keepalive_timeout=HEAD_SECONDS,
                lingering_time=HALF_CLOSE_TIMEOUT,
                max_line_size=HEAD_BYTES,
                max_field_size=HEAD_BYTES,
            )
            server = await self._loop.create_server(self._accept, sock=listener)
            ready.set()
            await self._stopping.wait()
            self._loop.remove_reader(listener)  # first: `close` would leak a connection that is being accepted
            await asyncio.sleep(0)
            server.close()
            for connection in self._server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await self._server.shutdown(0.1)
            while pending := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in pending:  # in every round: before Python 3.12 `wait_for` may lose a cancellation
                    task.cancel()
                await asyncio.wait(pending, timeout=0.1)

    def _accept(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        assert self._server is not None
        full = self.connections >= MAX_CONNECTIONS + SPARE_CONNECTIONS
        return _Closed() if full or self._stopping.is_set() else self._server()

    async def _respond(self, received: web.BaseRequest) -> web.StreamResponse:
        """Respond to a request. A websocket's response ends with its connection."""
        transport = received.transport
        if transport is None:  # the client has gone
            raise ConnectionResetError
        transport.set_write_buffer_limits(0)  # makes a write wait until everything is sent
        try:
            if refusal := self._refusal(received):
                return _response(refusal)
            forward = self._forward_websocket if _request(received).is_upgrade else self._forward_page
            return await forward(received)
        except FAILURES:
            return _response(Refusal(status=502, text="The viewer does not respond.\n"))
        finally:
            self._loop.call_later(HALF_CLOSE_TIMEOUT, transport.abort)  # also if its client never reads the response

    def _refusal(self, received: web.BaseRequest) -> Refusal | None:
        if self.connections > MAX_CONNECTIONS:
            return Refusal(status=503, text="Too many visitors; try again later.\n")
        if received.version != aiohttp.HttpVersion11:
            return Refusal(status=400, text="This is not a valid HTTP/1.1 request.\n")
        return authorize(_request(received), self._token, f"blocknerf_token_{self.port}")

    async def _forward_page(self, received: web.BaseRequest) -> web.StreamResponse:
        headers = self._headers(received, REQUEST_HEADERS)
        async with self._client.request(
            received.method, self._inner_url(received), headers=headers, allow_redirects=False
        ) as inner:
            response = web.StreamResponse(
                status=inner.status, reason=inner.reason, headers=_without(inner.headers, HOP_HEADERS)
            )
            response.force_close()
            try:
                await _timed(response.prepare(received))
                async for chunk in inner.content.iter_any():
                    await _timed(response.write(chunk))
                await _timed(response.write_eof())
            except FAILURES:
                _abort(received)  # the page is incomplete, or its reader stalls
            return response

    async def _forward_websocket(self, received: web.BaseRequest) -> web.StreamResponse:
        headers = self._headers(received, (*REQUEST_HEADERS, *WEBSOCKET_HEADERS))
        protocols = ",".join(received.headers.getall("Sec-WebSocket-Protocol", []))
        async with self._client.ws_connect(
            self._inner_url(received),
            headers=headers,
            protocols=[name.strip() for name in protocols.split(",") if name.strip()],
            max_msg_size=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=HALF_CLOSE_TIMEOUT),
        ) as inner:
            page = web.WebSocketResponse(
                protocols=() if inner.protocol is None else (inner.protocol,),
                autoping=False,
                compress=False,
                heartbeat=HEARTBEAT,
                max_msg_size=MAX_MESSAGE + 1,  # the first size that is refused
                timeout=HALF_CLOSE_TIMEOUT,
                writer_limit=0,  # each write waits until it is sent
            )
            if not page.can_prepare(received).ok:
                return _response(Refusal(status=400, text="This is not a valid websocket request.\n"))
            await page.prepare(received)
            if not await _first_of(_to_viser(page, inner), _to_page(inner, page)):
                _abort(received)
            return page

    def _inner_url(self, received: web.BaseRequest) -> URL:
        return URL(f"http://{LOOPBACK}:{self.inner_port}{received.raw_path}", encoded=True)

    def _headers(self, received: web.BaseRequest, removed: tuple[str, ...]) -> CIMultiDict[str]:
        headers = _without(received.headers, removed)
        if self._secret:
            headers[SECRET_HEADER] = self._secret
        return headers


class _Closed(asyncio.Protocol):
    """A connection that is closed without a response."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


async def _to_viser(page: web.WebSocketResponse, inner: aiohttp.ClientWebSocketResponse[Any]) -> None:
    """Forward a page's messages until it closes the websocket or breaks a rule."""
    messages = MessageFilter()
    while (message := await page.receive()).type in (WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG):
        if message.type is WSMsgType.PING:
            await _timed(page.pong(message.data))
        elif message.type is WSMsgType.BINARY:
            try:
                content = messages.forwarded(message.data)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                await _timed(page.close(code=WSCloseCode.POLICY_VIOLATION))
                return
            if content is not None:
                await _timed(inner.send_bytes(content))
        await asyncio.sleep(messages.delay(time.monotonic()))


async def _to_page(inner: aiohttp.ClientWebSocketResponse[Any], page: web.WebSocketResponse) -> None:
    """Forward viser's messages until it closes the websocket."""
    while (message := await inner.receive()).type in (WSMsgType.BINARY, WSMsgType.TEXT):
        await _timed(page.send_bytes(message.data) if message.type is WSMsgType.BINARY else page.send_str(message.data))
    code: int = WSCloseCode.GOING_AWAY
    reason = ""
    if message.type is WSMsgType.CLOSE and message.data:
        code, reason = message.data, message.extra or ""
    await _timed(page.close(code=code, message=reason.encode()))


async def _first_of(*directions: Coroutine[Any, Any, None]) -> bool:
    """Run both directions until one ends, then cancel the other. Return False if that one failed."""
    tasks = [asyncio.create_task(_succeeds(direction)) for direction in directions]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return all(task.result() for task in ended)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _succeeds(direction: Coroutine[Any, Any, None]) -> bool:
    try:
        await direction
    except FAILURES:
        return False
    except Exception:
        logging.getLogger(__name__).exception("a connection failed")
        return False
    return True


async def _timed(write: Coroutine[Any, Any, Any]) -> None:
    await asyncio.wait_for(write, IDLE_TIMEOUT)


def _abort(received: web.BaseRequest) -> None:
    if received.transport is not None:
        received.transport.abort()


def _request(received: web.BaseRequest) -> Request:
    return Request(method=received.method, target=received.raw_path, headers=tuple(received.headers.items()))


def _response(refusal: Refusal) -> web.Response:
    """Return a refusal as a response, after which the connection closes."""
    headers = {"Cache-Control": "no-store", **refusal.headers}
    response = web.Response(status=refusal.status, text=refusal.text, headers=headers)
    response.force_close()
    return response


def _without(headers: Mapping[str, str], removed: tuple[str, ...]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in removed:
        kept.popall(name, None)
    return kept
