"""Connections through the proxy: what is forwarded, how they end, and that no client blocks the others."""

import gc
import re
import socket
import threading
import time
from contextlib import suppress

import pytest

from tests.viewer.raw_http import (
    FLOOD_BYTES,
    UPGRADE,
    StubServer,
    connect,
    frame,
    head,
    open_websocket,
    read_all,
    read_until,
    send_request,
    wait_for,
)
from viewer import auth_proxy
from viewer.auth_proxy import AuthProxy
from viewer.frame_limit import MAX_MESSAGE


def test_bytes_pass_in_both_directions_and_after_a_half_close(open_proxy: AuthProxy) -> None:
    data = frame(bytes(range(256)) * 256) * 80
    with open_websocket(open_proxy) as client:
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        assert read_all(client) == data + b"the end"
        sender.join()
    wait_for(lambda: open_proxy.connections == 0)


def test_frames_sent_with_the_request_head_are_not_lost(open_proxy: AuthProxy) -> None:
    with connect(open_proxy) as client:
        client.sendall(head(open_proxy, "/", UPGRADE) + b"early")
        assert read_until(client, b"early").endswith(b"\r\n\r\nearly")


def test_a_websocket_ends_when_the_viewer_ends_it(open_proxy: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "HALF_CLOSE_TIMEOUT", 0.1)
    with open_websocket(open_proxy, "/ends") as client:
        assert read_all(client) == b""
        wait_for(lambda: open_proxy.connections == 0)  # although this side is still open


def test_a_client_that_does_not_read_slows_down_the_viewer(open_proxy: AuthProxy, stub: StubServer) -> None:
    with open_websocket(open_proxy, "/flood") as client:
        sent = -1
        while sent != stub.flooded:
            sent = stub.flooded
            time.sleep(0.3)
        assert stub.flooded < FLOOD_BYTES / 2
        assert client.recv(10) == bytes(10)


def test_a_client_that_still_sends_gets_the_whole_response(open_proxy: AuthProxy) -> None:
    with connect(open_proxy) as client:
        client.sendall(head(open_proxy, method="POST"))
        assert read_until(client, b"GET and HEAD.\n").startswith(b"HTTP/1.1 405 ")
        for _ in range(5):
            client.sendall(b"more")  # would reset a closed connection
            time.sleep(0.01)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""


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
def test_garbage_ends_only_its_connection(open_proxy: AuthProxy, stub: StubServer, garbage: bytes) -> None:
    with open_websocket(open_proxy) as other:
        heads = list(stub.heads)
        assert send_request(open_proxy, garbage)[0] == 400
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"
    assert stub.heads == heads


def test_an_endless_head_ends_only_its_connection(open_proxy: AuthProxy) -> None:
    with open_websocket(open_proxy) as other:
        for size in (auth_proxy.HEAD_BYTES + 100, 1 << 18):
            with connect(open_proxy) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * size)
                assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
        assert send_request(open_proxy, head(open_proxy, "/", f"A: {'a' * 15000}\r\n"))[0] == 200
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"


@pytest.mark.parametrize("frames", [[(0x82, MAX_MESSAGE + 1)], [(0x02, MAX_MESSAGE), (0x80, 1)], [(0x89, 126)]])
def test_a_too_long_message_ends_only_its_connection(open_proxy: AuthProxy, frames: list[tuple[int, int]]) -> None:
    with open_websocket(open_proxy) as other, open_websocket(open_proxy) as client:
        accepted = frame(bytes(MAX_MESSAGE)) + frame(b"hello")
        client.sendall(accepted)
        assert len(read_until(client, b"hello")) <= len(accepted)
        for kind, size in frames:
            client.sendall(frame(bytes(size), kind))
        with suppress(ConnectionResetError):
            read_all(client)
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"
    wait_for(lambda: open_proxy.connections == 0)


def test_a_flood_of_messages_is_delayed_or_ends_its_connection(open_proxy: AuthProxy) -> None:
    with (
        open_websocket(open_proxy) as other,
        open_websocket(open_proxy) as client,
        open_websocket(open_proxy) as flooder,
    ):
        data = frame(b"") * 50_000  # each read of these would be delayed longer than IDLE_TIMEOUT
        with suppress(ConnectionError):
            flooder.sendall(data)
            assert len(read_all(flooder)) < len(data)
        accepted = frame(b"") * 290
        client.sendall(accepted + frame(b"hello"))
        assert read_until(client, b"hello").startswith(accepted)
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"


def test_silence_ends_only_its_connection(open_proxy: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "HEAD_SECONDS", 0.1)
    with open_websocket(open_proxy) as other:
        for start in (b"", b"GET / HT"):
            with connect(open_proxy) as client:
                client.sendall(start)
                assert read_all(client) == b""
        other.sendall(b"still here")
        assert read_until(other, b"still here") == b"still here"


def test_a_second_request_on_one_connection_is_not_forwarded(open_proxy: AuthProxy, stub: StubServer) -> None:
    second = head(open_proxy, "/second")
    for more in ("Connection: keep-alive\r\n", "CONNECTION : Keep-Alive\r\n".replace(" :", ":"), ""):
        assert send_request(open_proxy, head(open_proxy, "/", more) + second)[0] == 200
        assert re.findall(rb"(?i)\r\nconnection: *([^\r]*)", stub.heads[-1]) == [b"close"]
    with connect(open_proxy) as client:
        client.sendall(head(open_proxy))
        read_until(client, b"inner")
        client.sendall(second)
        read_all(client)
    with connect(open_proxy) as client:  # a refused websocket is an ordinary page
        client.sendall(head(open_proxy, "/refused", UPGRADE))
        read_until(client, b"inner")
        client.sendall(second)
        read_all(client)
    assert len(stub.heads) == 5
    assert stub.later == b""


def test_headers_are_forwarded_unchanged(open_proxy: AuthProxy, stub: StubServer) -> None:
    more = "X-Odd:no space\r\nCookie: a=b; token=c\r\nAccept-Encoding:  gzip \r\nX-Odd: \xe9\r\n"
    send_request(open_proxy, head(open_proxy, "/x?token=c", more))
    assert stub.heads == [head(open_proxy, "/x?token=c", more + "Connection: close\r\n").decode().encode("utf-8")]


def test_a_viewer_that_does_not_respond_is_a_bad_gateway(open_proxy: AuthProxy) -> None:
    assert send_request(open_proxy, head(open_proxy, "/silent"))[0] == 502
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with AuthProxy("127.0.0.1", 0, port, None) as proxy:
        assert send_request(proxy, head(proxy))[0] == 502
        assert send_request(proxy, head(proxy, "/", UPGRADE))[0] == 502


def test_a_viewer_that_stalls_is_a_bad_gateway_or_cut_off(
    open_proxy: AuthProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_proxy, "IDLE_TIMEOUT", 0.1)
    assert send_request(open_proxy, head(open_proxy, "/delayed"))[0] == 502
    assert send_request(open_proxy, head(open_proxy))[1].endswith("inner")
    wait_for(lambda: open_proxy.connections == 0)


def test_a_client_that_vanishes_frees_its_connection(open_proxy: AuthProxy) -> None:
    clients = [open_websocket(open_proxy), connect(open_proxy), connect(open_proxy)]
    clients[2].sendall(b"GET / HT")
    wait_for(lambda: open_proxy.connections == 3)
    for client in clients:
        # A reset instead of a close, as from a crashed machine.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    wait_for(lambda: open_proxy.connections == 0)
    clients = [open_websocket(open_proxy), connect(open_proxy)]
    wait_for(lambda: open_proxy.connections == 2)
    for client in clients:
        client.close()
    wait_for(lambda: open_proxy.connections == 0)


def test_a_client_that_leaves_before_the_response_frees_its_connection(open_proxy: AuthProxy, stub: StubServer) -> None:
    with connect(open_proxy) as client:
        client.sendall(head(open_proxy, "/delayed"))
        wait_for(lambda: len(stub.heads) == 1)
    stub.released.set()
    wait_for(lambda: open_proxy.connections == 0)


def test_connections_are_limited(open_proxy: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "MAX_CONNECTIONS", 2)
    with open_websocket(open_proxy), connect(open_proxy) as idle:
        wait_for(lambda: open_proxy.connections == 2)
        with connect(open_proxy) as client:
            assert read_until(client, b"later").startswith(b"HTTP/1.1 503 ")
        idle.close()
        wait_for(lambda: open_proxy.connections == 1)
        assert send_request(open_proxy, head(open_proxy))[0] == 200


def test_stop_closes_every_connection(stub: StubServer, capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    proxy = AuthProxy("127.0.0.1", 0, stub.server_address[1], None)
    proxy.stop()
    proxy.start()
    (thread,) = {thread for thread in set(threading.enumerate()) - before if thread.daemon}
    with open_websocket(proxy) as first, open_websocket(proxy, "/flood") as second, connect(proxy) as third:
        third.sendall(b"GET / HT")
        wait_for(lambda: proxy.connections == 3)
        start = time.monotonic()
        proxy.stop()
        proxy.stop()
        assert time.monotonic() - start < 2
        assert not thread.is_alive()
        assert proxy.connections == 0
        assert read_all(first) == b""
        assert third.recv(1) == b""
        second.close()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    del first, second, third
    gc.collect()  # open resources would warn here, and warnings are errors
    assert capfd.readouterr() == ("", "")
    proxy.start()
    assert send_request(proxy, head(proxy))[0] == 200
    proxy.stop()


def test_stop_while_clients_connect_leaves_nothing_open(stub: StubServer, capfd: pytest.CaptureFixture[str]) -> None:
    for wait in (0, 0, 0, 0.001, 0.01):
        proxy = AuthProxy("127.0.0.1", 0, stub.server_address[1], None)
        proxy.start()
        clients = [connect(proxy) for _ in range(20)]
        for client in clients:
            client.sendall(head(proxy, "/", UPGRADE))
        time.sleep(wait)
        proxy.stop()
        for client in clients:
            client.close()
        gc.collect()
    assert capfd.readouterr() == ("", "")
