"""Messages that no page would send: they end the client's own session, or have no effect."""

import threading

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from tests.viewer.websocket_client import CAMERA, PageClient, open_client
from viewer import camera_path_panel, message_filter
from viewer.auth_proxy import AuthProxy
from viewer.message_filter import MAX_FILE_BYTES, MAX_PARTS
from viewer.session import ClientSession


@pytest.fixture(autouse=True)
def _one_upload_button(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the button of a page: messages name its UUID."""
    monkeypatch.setattr(camera_path_panel, "FREE_UPLOAD_AFTER", 60.0)


def button(page: PageClient) -> str:
    """Return the UUID of the upload button."""
    return str(page.wait_for("GuiUploadButtonMessage")["uuid"])


def start(page: PageClient, name: str, size: int, parts: int) -> None:
    ids = {"source_component_uuid": button(page), "transfer_uuid": name}
    file = {"filename": "path.json", "mime_type": "application/json"}
    page.send("FileTransferStartUpload", **ids, **file, size_bytes=size, part_count=parts)


def part(page: PageClient, name: str, index: int, content: bytes) -> None:
    ids = {"source_component_uuid": button(page), "transfer_uuid": name}
    page.send("FileTransferPart", **ids, part_index=index, content=content)


def acks(page: PageClient, name: str) -> list[int]:
    page.receive(0.7)
    messages = [message for message in page.received if message["type"] == "FileTransferPartAck"]
    return [message["transferred_bytes"] for message in messages if message["transfer_uuid"] == name]


def panel_contains(page: PageClient, text: str) -> bool:
    page.receive(0.7)
    return any(text in str(message) for message in page.received)


@pytest.mark.parametrize("message", [b"garbage", b"", b"\x81\xa4type\xa7nothing", bytes(2 << 20)])
def test_a_malformed_or_huge_message_ends_only_its_session(proxy: AuthProxy, message: bytes) -> None:
    with open_client(proxy.port) as other, open_client(proxy.port) as page:
        for client in (other, page):
            client.wait_for_rendering()
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            page.connection.send(message)
            page.receive(20.0)
        other.receive(1.0)
        other.send(**CAMERA | {"fov": 1.0})
        other.wait_for_rendering()


def test_a_too_large_file_is_refused(proxy: AuthProxy) -> None:
    with open_client(proxy.port) as page:
        start(page, "large", MAX_FILE_BYTES + 1, 65)
        assert acks(page, "large") == [0], "ends the page's progress bar"
        assert panel_contains(page, "files of up to 32 MiB are loaded")
        part(page, "large", 0, bytes(1000))
        assert len(acks(page, "large")) == 1
        start(page, "crumbs", 1000, MAX_PARTS + 1)
        part(page, "crumbs", 0, b"1")
        assert acks(page, "crumbs") == [0]


def test_a_file_may_not_exceed_its_announced_size(proxy: AuthProxy) -> None:
    with open_client(proxy.port) as page:
        start(page, "liar", 1000, 60)
        part(page, "liar", 0, bytes(900))
        assert acks(page, "liar") == [900]
        part(page, "liar", 1, bytes(101))
        part(page, "liar", 2, bytes(10))
        assert acks(page, "liar") == [900]


def test_one_file_is_uploaded_at_a_time(proxy: AuthProxy) -> None:
    with open_client(proxy.port) as page:
        start(page, "first", 1000, 2)
        part(page, "first", 0, bytes(500))
        start(page, "second", 4, 1)
        part(page, "second", 0, b"none")
        assert acks(page, "second") == [0], "refused while the first is not complete"
        part(page, "first", 1, bytes(500))
        assert acks(page, "first") == [500, 1000]
        start(page, "third", 4, 1)
        part(page, "third", 0, b"none")
        assert acks(page, "third") == [4]
        assert panel_contains(page, "Not done:")  # not a valid path


def test_a_flood_of_cameras_is_not_processed_one_by_one(proxy: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, request_render = [], ClientSession._request_render

    def counted(session: ClientSession) -> None:
        calls.append(session)
        request_render(session)

    monkeypatch.setattr(ClientSession, "_request_render", counted)
    monkeypatch.setattr(message_filter, "RATE", 1e9)  # so that the proxy forwards all of them
    with open_client(proxy.port) as flooder, open_client(proxy.port) as other:
        for client in (flooder, other):
            client.wait_for_rendering()
        before = len(calls)
        camera = {"type": CAMERA["kind"], **{key: value for key, value in CAMERA.items() if key != "kind"}}
        flood = [msgspec.msgpack.encode(camera | {"fov": 0.5 + i / 4000}) for i in range(2000)]
        thread = threading.Thread(target=lambda: [flooder.connection.send(message) for message in flood])
        thread.start()
        for fov in (1.0, 1.1, 1.2):
            other.set_camera(fov=fov)
            other.wait_for_rendering()
        thread.join()
        flooder.wait_for_rendering()
        assert len(calls) - before < len(flood) / 2


def test_form_states_are_not_relayed_to_other_clients(proxy: AuthProxy) -> None:
    with open_client(proxy.port) as page, open_client(proxy.port) as other:
        for client in (page, other):
            client.wait_for_rendering()
        for number in range(20):
            page.send("GuiFormDirtyMessage", uuid=f"form {number}")
        page.set_camera(fov=1.0)
        page.wait_for_rendering()
        other.receive(0.5)
        assert "GuiFormDirtyMessage" not in {message["type"] for message in other.received}
    with open_client(proxy.port) as later:
        later.wait_for_rendering()
        assert "GuiFormDirtyMessage" not in {message["type"] for message in later.received}
