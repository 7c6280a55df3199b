"""What passes the gate, how it ends, and that nobody keeps it from the others."""

import gc
import re
import socket
import threading
import time
from contextlib import suppress

import pytest

from tests.viewer.visitors import (
    FLOOD_BYTES,
    UPGRADE,
    Inner,
    ask,
    connect,
    frame,
    head,
    read_all,
    read_until,
    wait_for,
    websocket,
)
from viewer import auth_proxy
from viewer.auth_proxy import AuthProxy
from viewer.frame_limit import MAX_MESSAGE


def test_bytes_pass_both_ways_at_once_and_after_a_half_close(free: AuthProxy) -> None:
    data = frame(bytes(range(256)) * 256) * 80
    with websocket(free) as visitor:
        sender = threading.Thread(target=lambda: (visitor.sendall(data), visitor.shutdown(socket.SHUT_WR)))
        sender.start()
        assert read_all(visitor) == data + b"the end"
        sender.join()
    wait_for(lambda: free.connections == 0)


def test_frames_that_come_with_the_head_are_not_lost(free: AuthProxy) -> None:
    with connect(free) as visitor:
        visitor.sendall(head(free, "/", UPGRADE) + b"early")
        assert read_until(visitor, b"early").endswith(b"\r\n\r\nearly")


def test_a_websocket_ends_when_the_viewer_ends_it(free: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "HALF_CLOSE_TIMEOUT", 0.1)
    with websocket(free, "/ends") as visitor:
        assert read_all(visitor) == b""
        wait_for(lambda: free.connections == 0)  # though this side is still open


def test_a_visitor_who_does_not_read_holds_back_the_viewer(free: AuthProxy, inner: Inner) -> None:
    with websocket(free, "/flood") as visitor:
        seen = -1
        while seen != inner.flooded:
            seen = inner.flooded
            time.sleep(0.3)
        assert inner.flooded < FLOOD_BYTES / 2
        assert visitor.recv(10) == bytes(10)


def test_a_visitor_who_still_talks_is_not_cut_off_from_the_answer(free: AuthProxy) -> None:
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
def test_garbage_ends_its_connection_only(free: AuthProxy, inner: Inner, garbage: bytes) -> None:
    with websocket(free) as other:
        heads = list(inner.heads)
        assert ask(free, garbage)[0] == 400
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"
    assert inner.heads == heads


def test_a_head_without_end_ends_its_connection_only(free: AuthProxy) -> None:
    with websocket(free) as other:
        for size in (auth_proxy.HEAD_BYTES + 100, 1 << 18):
            with connect(free) as visitor:
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * size)
                assert read_until(visitor, b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
        assert ask(free, head(free, "/", f"A: {'a' * 15000}\r\n"))[0] == 200
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"


@pytest.mark.parametrize("frames", [[(0x82, MAX_MESSAGE + 1)], [(0x02, MAX_MESSAGE), (0x80, 1)], [(0x89, 126)]])
def test_a_message_that_is_too_long_ends_its_connection_only(free: AuthProxy, frames: list[tuple[int, int]]) -> None:
    with websocket(free) as other, websocket(free) as visitor:
        fitting = frame(bytes(MAX_MESSAGE)) + frame(b"hello")
        visitor.sendall(fitting)
        assert len(read_until(visitor, b"hello")) <= len(fitting)
        for kind, size in frames:
            visitor.sendall(frame(bytes(size), kind))
        with suppress(ConnectionResetError):
            read_all(visitor)
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"
    wait_for(lambda: free.connections == 0)


def test_a_flood_of_messages_ends_its_connection_or_is_held_back(free: AuthProxy) -> None:
    with websocket(free) as other, websocket(free) as visitor, websocket(free) as flooder:
        data = frame(b"") * 50_000  # each read of these would be held back for longer than a page may stall
        with suppress(ConnectionError):
            flooder.sendall(data)
            assert len(read_all(flooder)) < len(data)
        fitting = frame(b"") * 290
        visitor.sendall(fitting + frame(b"hello"))
        assert read_until(visitor, b"hello").startswith(fitting)
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"


def test_silence_ends_its_connection_only(free: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "HEAD_SECONDS", 0.1)
    with websocket(free) as other:
        for start in (b"", b"GET / HT"):
            with connect(free) as visitor:
                visitor.sendall(start)
                assert read_all(visitor) == b""
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"


def test_a_second_request_on_one_connection_is_not_forwarded(free: AuthProxy, inner: Inner) -> None:
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


def test_headers_pass_as_they_came(free: AuthProxy, inner: Inner) -> None:
    more = "X-Odd:no space\r\nCookie: a=b; token=c\r\nAccept-Encoding:  gzip \r\nX-Odd: \xe9\r\n"
    ask(free, head(free, "/x?token=c", more))
    assert inner.heads == [head(free, "/x?token=c", more + "Connection: close\r\n").decode().encode("utf-8")]


def test_a_viewer_that_does_not_answer_is_told(free: AuthProxy) -> None:
    assert ask(free, head(free, "/dumb"))[0] == 502
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with AuthProxy("127.0.0.1", 0, port, None) as gate:
        assert ask(gate, head(gate))[0] == 502
        assert ask(gate, head(gate, "/", UPGRADE))[0] == 502


def test_a_viewer_that_stalls_is_told_or_cut_off(free: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "IDLE_TIMEOUT", 0.1)
    assert ask(free, head(free, "/held"))[0] == 502
    assert ask(free, head(free))[1].endswith("inner")
    wait_for(lambda: free.connections == 0)


def test_a_visitor_who_vanishes_frees_the_connection(free: AuthProxy) -> None:
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


def test_a_visitor_who_leaves_while_the_viewer_thinks_frees_the_connection(free: AuthProxy, inner: Inner) -> None:
    with connect(free) as visitor:
        visitor.sendall(head(free, "/held"))
        wait_for(lambda: len(inner.heads) == 1)
    inner.released.set()
    wait_for(lambda: free.connections == 0)


def test_connections_are_limited(free: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "MAX_CONNECTIONS", 2)
    with websocket(free), connect(free) as idle:
        wait_for(lambda: free.connections == 2)
        with connect(free) as visitor:
            assert read_until(visitor, b"later").startswith(b"HTTP/1.1 503 ")
        idle.close()
        wait_for(lambda: free.connections == 1)
        assert ask(free, head(free))[0] == 200


def test_stopping_ends_everything(inner: Inner, capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    gate = AuthProxy("127.0.0.1", 0, inner.server_address[1], None)
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
        gate = AuthProxy("127.0.0.1", 0, inner.server_address[1], None)
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
