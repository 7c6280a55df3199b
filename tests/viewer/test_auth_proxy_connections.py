"""Connections through the proxy: what is forwarded, how they end, and that no client blocks the others."""

import gc
import socket
import threading
import time
from contextlib import suppress

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.viewer.raw_http import (
    FLOOD_BYTES,
    UPGRADE,
    StubServer,
    connect,
    frame,
    head,
    headers,
    message,
    open_websocket,
    read_all,
    read_until,
    send_request,
    wait_for,
)
from viewer import auth_proxy
from viewer.auth_proxy import AuthProxy
from viewer.message_filter import MAX_MESSAGE


def assert_alive(client: socket.socket) -> None:
    """Check that a websocket still echoes."""
    client.sendall(frame(message("still here")))
    assert read_until(client, b"still here").endswith(message("still here"))


def messages(count: int) -> list[bytes]:
    """Return different messages of viser's protocol, half of them long."""
    return [message(f"{i}" + "x" * (i % 2) * 70_000) for i in range(count)]


def receive(client: socket.socket, count: int) -> list[bytes]:
    """Return the next whole messages of a websocket."""
    websocket, received = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None), list[bytes]()
    while len(received) < count:
        websocket.receive_data(client.recv(1 << 16))
        frames = [event for event in websocket.events_received() if isinstance(event, Frame)]
        received += [bytes(event.data) for event in frames if event.opcode is Opcode.BINARY]
    return received


def test_messages_pass_in_both_directions_and_in_order(open_proxy: AuthProxy) -> None:
    sent = messages(80)
    with open_websocket(open_proxy) as client:
        sender = threading.Thread(target=lambda: [client.sendall(frame(content)) for content in sent])
        sender.start()
        assert receive(client, len(sent)) == sent
        sender.join()
    wait_for(lambda: open_proxy.connections == 0)


def test_frames_sent_with_the_request_head_are_not_lost(open_proxy: AuthProxy) -> None:
    with connect(open_proxy) as client:
        client.sendall(head(open_proxy, "/", UPGRADE) + frame(message("early")))
        assert read_until(client, b"early").endswith(message("early"))


def test_pings_are_answered(open_proxy: AuthProxy) -> None:
    with open_websocket(open_proxy) as client:
        client.sendall(frame(b"are you there", 0x89))
        assert read_until(client, b"there") == bytes([0x8A, 13]) + b"are you there"


def test_a_websocket_ends_when_the_viewer_ends_it(open_proxy: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "HALF_CLOSE_TIMEOUT", 0.1)
    with connect(open_proxy) as client:
        client.sendall(head(open_proxy, "/ends", UPGRADE))
        assert read_all(client).endswith(bytes([0x88, 2]) + (1001).to_bytes(2, "big"))
        wait_for(lambda: open_proxy.connections == 0)  # although this side is still open


def test_a_client_that_does_not_read_slows_down_the_viewer(open_proxy: AuthProxy, stub: StubServer) -> None:
    with open_websocket(open_proxy, "/flood") as client:
        sent = -1
        while sent != stub.flooded:
            sent = stub.flooded
            time.sleep(0.3)
        assert stub.flooded < FLOOD_BYTES / 2
        assert client.recv(10)


@pytest.mark.parametrize(("target", "more"), [("/large", ""), ("/flood", UPGRADE)], ids=["page", "websocket"])
def test_a_client_that_never_reads_is_disconnected(
    target: str, more: str, open_proxy: AuthProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_proxy, "IDLE_TIMEOUT", 0.3)
    with connect(open_proxy) as client:
        client.sendall(head(open_proxy, target, more))
        wait_for(lambda: open_proxy.connections == 1)
        wait_for(lambda: open_proxy.connections == 0)


def test_a_page_that_answers_no_ping_is_disconnected(open_proxy: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "HEARTBEAT", 0.2)
    with open_websocket(open_proxy) as client:
        assert_alive(client)
        wait_for(lambda: open_proxy.connections == 0)


def test_a_client_that_still_sends_gets_the_whole_response(open_proxy: AuthProxy) -> None:
    with connect(open_proxy) as client:
        client.sendall(head(open_proxy, "/", "Content-Length: 20\r\n", method="POST"))
        assert read_until(client, b"GET and HEAD.\n").startswith(b"HTTP/1.1 405 ")
        for _ in range(5):
            client.sendall(b"more")  # would reset a closed connection
            time.sleep(0.01)
        assert read_all(client) == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\xff\x00\r\n\r\n",
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
        assert_alive(other)
    assert stub.heads == heads


def test_an_endless_head_ends_only_its_connection(open_proxy: AuthProxy) -> None:
    with open_websocket(open_proxy) as other:
        for endless in (b"a" * (auth_proxy.HEAD_BYTES + 100), b"a" * (1 << 18), b"a\r\nA: " * 10_000):
            with connect(open_proxy) as client, suppress(ConnectionError):
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + endless)
                assert read_until(client, b"\r\n\r\n").split()[1] == b"400"
        assert send_request(open_proxy, head(open_proxy, "/", f"A: {'a' * 15000}\r\n"))[0] == 200
        assert_alive(other)


@pytest.mark.parametrize("frames", [[(0x82, MAX_MESSAGE + 1)], [(0x02, MAX_MESSAGE), (0x80, 1)], [(0x89, 126)]])
def test_a_too_long_message_ends_only_its_connection(open_proxy: AuthProxy, frames: list[tuple[int, int]]) -> None:
    with open_websocket(open_proxy) as other, open_websocket(open_proxy) as client:
        longest = message("x" * (MAX_MESSAGE - len(message("x" * (1 << 16)) + bytes(4)) + (1 << 16)))
        client.sendall(frame(longest) + frame(message("hello")))
        assert len(read_until(client, b"hello")) > len(longest)
        for kind, size in frames:
            client.sendall(frame(bytes(size), kind))
        with suppress(ConnectionResetError):
            read_all(client)
        assert_alive(other)
    wait_for(lambda: open_proxy.connections == 0)


def test_a_flood_of_messages_is_slowed_down(open_proxy: AuthProxy, stub: StubServer) -> None:
    with (
        open_websocket(open_proxy) as other,
        open_websocket(open_proxy) as client,
        open_websocket(open_proxy) as flooder,
    ):
        flooder.sendall(frame(message("flood")) * 20_000 + frame(message("the last")))
        accepted = frame(message("brief")) * 290
        client.sendall(accepted + frame(message("hello")))
        assert read_until(client, b"hello").count(b"brief") == 290
        assert_alive(other)
        flooder.settimeout(0.5)
        received = b""
        with suppress(TimeoutError):
            while len(received) < 20_000:
                received += flooder.recv(1 << 16)
        assert b"the last" not in received
    stub.released.set()


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x81\xa4type\x01", b"\x81\xa4type\xa1\xff", b"\x91" * 200_000])
def test_what_is_no_message_of_viser_ends_only_its_connection(open_proxy: AuthProxy, content: bytes) -> None:
    with open_websocket(open_proxy) as other, open_websocket(open_proxy) as client:
        client.sendall(frame(content))
        assert read_all(client)[:4] == bytes([0x88, 2]) + (1008).to_bytes(2, "big")
        assert_alive(other)


def test_silence_ends_only_its_connection(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "HEAD_SECONDS", 0.1)
    with AuthProxy("127.0.0.1", 0, stub.server_address[1], None) as proxy, open_websocket(proxy) as other:
        for start in (b"", b"GET / HT", b"\r\n\r\n"):
            with connect(proxy) as client:
                client.sendall(start)
                assert read_all(client) == b""
        assert_alive(other)


def test_a_second_request_on_one_connection_is_not_forwarded(open_proxy: AuthProxy, stub: StubServer) -> None:
    second = head(open_proxy, "/second")
    for more in ("Connection: keep-alive\r\n", "CONNECTION: Keep-Alive\r\n", ""):
        assert send_request(open_proxy, head(open_proxy, "/", more) + second)[0] == 200
        assert dict(headers(stub.heads[-1])).get("connection") == "close"
    with connect(open_proxy) as client:
        client.sendall(head(open_proxy))
        read_until(client, b"inner")
        with suppress(ConnectionResetError):
            client.sendall(second)
            read_all(client)
    with connect(open_proxy) as client:  # nor after a websocket that viser refuses
        client.sendall(head(open_proxy, "/refused", UPGRADE))
        read_until(client, b"respond.\n")
        with suppress(ConnectionResetError):
            client.sendall(second)
            read_all(client)
    assert len(stub.heads) == 5
    assert stub.later == b""


def test_other_headers_are_forwarded_unchanged(open_proxy: AuthProxy, stub: StubServer) -> None:
    more = "X-Odd:no space\r\nCookie: a=b; token=c\r\nAccept-Encoding:  gzip \r\nX-Odd: \xe9\r\n"
    for request in (head(open_proxy, "/x?token=c%2F", more), head(open_proxy, "/x?token=c%2F", UPGRADE + more)):
        with connect(open_proxy) as client:
            client.sendall(request)
            read_until(client, b"\r\n\r\n")
        assert stub.heads[-1].startswith(b"GET /x?token=c%2F HTTP/1.1\r\n")
        expected = {pair for pair in headers(request) if pair[0] not in ("connection", "upgrade", "sec-websocket-key")}
        assert set(headers(stub.heads[-1])) >= expected
        assert dict(headers(request)).get("sec-websocket-key") != dict(headers(stub.heads[-1])).get(
            "sec-websocket-key", ""
        )


def test_a_viewer_that_does_not_respond_is_a_bad_gateway(open_proxy: AuthProxy) -> None:
    assert send_request(open_proxy, head(open_proxy, "/silent"))[0] == 502
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with AuthProxy("127.0.0.1", 0, port, None) as proxy:
        assert send_request(proxy, head(proxy))[0] == 502
        assert send_request(proxy, head(proxy, "/", UPGRADE))[0] == 502


def test_a_viewer_that_stalls_is_a_bad_gateway_or_cut_off(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_proxy, "IDLE_TIMEOUT", 0.2)
    with AuthProxy("127.0.0.1", 0, stub.server_address[1], None) as proxy:
        assert send_request(proxy, head(proxy, "/delayed"))[0] == 502
        with connect(proxy) as client, suppress(ConnectionResetError):
            client.sendall(head(proxy, "/half"))
            assert read_all(client).endswith(b"inner")
        assert send_request(proxy, head(proxy))[1].endswith("inner")
        wait_for(lambda: proxy.connections == 0)


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
        assert send_request(open_proxy, head(open_proxy))[0] == 503
        monkeypatch.setattr(auth_proxy, "SPARE_CONNECTIONS", 0)
        with connect(open_proxy) as client, suppress(ConnectionResetError):
            assert read_all(client) == b"", "closed before it sends anything"
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
        for client in (first, third):
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""
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
