"""What visitors say that no page would say: it ends their own session, or has no effect."""

import threading

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from tests.viewer.speaking import CAMERA, Speaker, speaker
from viewer import frame_limit
from viewer.auth_proxy import AuthProxy
from viewer.session import ClientSession
from viewer.upload_limit import MAX_FILE_BYTES, MAX_PARTS


def button(page: Speaker) -> str:
    """The one by which a path is loaded."""
    return str(page.wait_for("GuiUploadButtonMessage")["uuid"])


def start(page: Speaker, name: str, size: int, parts: int) -> None:
    where = {"source_component_uuid": button(page), "transfer_uuid": name}
    about = {"filename": "path.json", "mime_type": "application/json"}
    page.say("FileTransferStartUpload", **where, **about, size_bytes=size, part_count=parts)


def part(page: Speaker, name: str, index: int, content: bytes) -> None:
    where = {"source_component_uuid": button(page), "transfer_uuid": name}
    page.say("FileTransferPart", **where, part_index=index, content=content)


def acks(page: Speaker, name: str) -> list[int]:
    page.listen(0.7)
    mine = [each for each in page.told if each["type"] == "FileTransferPartAck" and each["transfer_uuid"] == name]
    return [each["transferred_bytes"] for each in mine]


def panel_says(page: Speaker, what: str) -> bool:
    page.listen(0.7)
    return any(what in str(each) for each in page.told)


@pytest.mark.parametrize("message", [b"garbage", b"", b"\x81\xa4type\xa7nothing", bytes(2 << 20)])
def test_a_broken_or_huge_message_ends_its_own_session(gate: AuthProxy, message: bytes) -> None:
    with speaker(gate.port) as other, speaker(gate.port) as page:
        for each in (other, page):
            each.wait_for_picture()
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            page.connection.send(message)
            page.listen(20.0)
        other.listen(1.0)
        other.say(**CAMERA | {"fov": 1.0})
        other.wait_for_picture()


def test_a_file_that_is_too_large_is_not_taken(gate: AuthProxy) -> None:
    with speaker(gate.port) as page:
        start(page, "large", MAX_FILE_BYTES + 1, 65)
        assert acks(page, "large") == [MAX_FILE_BYTES + 1], "so that the page waits no longer"
        assert panel_says(page, "the file is larger than 32 MiB")
        part(page, "large", 0, bytes(1000))
        assert len(acks(page, "large")) == 1
        start(page, "crumbs", 1000, MAX_PARTS + 1)
        part(page, "crumbs", 0, b"1")
        assert acks(page, "crumbs") == [1000]


def test_a_file_is_no_larger_than_it_was_said_to_be(gate: AuthProxy) -> None:
    with speaker(gate.port) as page:
        start(page, "liar", 1000, 60)
        part(page, "liar", 0, bytes(900))
        assert acks(page, "liar") == [900]
        part(page, "liar", 1, bytes(101))
        part(page, "liar", 2, bytes(10))
        assert acks(page, "liar") == [900]


def test_one_file_is_sent_at_a_time(gate: AuthProxy) -> None:
    with speaker(gate.port) as page:
        start(page, "first", 1000, 2)
        part(page, "first", 0, bytes(500))
        start(page, "second", 4, 1)
        part(page, "first", 1, bytes(500))
        part(page, "second", 0, b"none")
        assert acks(page, "first") == [500]
        assert acks(page, "second") == [4]
        assert panel_says(page, "Not done:")  # it is no path


def test_a_flood_of_cameras_is_not_looked_at_one_by_one(gate: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ask = [], ClientSession._request_render

    def counted(session: ClientSession) -> None:
        asked.append(session)
        ask(session)

    monkeypatch.setattr(ClientSession, "_ask", counted)
    monkeypatch.setattr(frame_limit, "RATE", 1e9)  # the gate lets all of them in
    with speaker(gate.port) as flooder, speaker(gate.port) as other:
        for each in (flooder, other):
            each.wait_for_picture()
        before = len(asked)
        camera = {"type": CAMERA["kind"], **{key: value for key, value in CAMERA.items() if key != "kind"}}
        flood = [msgspec.msgpack.encode(camera | {"fov": 0.5 + i / 4000}) for i in range(2000)]
        thread = threading.Thread(target=lambda: [flooder.connection.send(each) for each in flood])
        thread.start()
        for fov in (1.0, 1.1, 1.2):
            other.stand(fov=fov)
            other.wait_for_picture()
        thread.join()
        flooder.wait_for_picture()
        assert len(asked) - before < len(flood) / 2


def test_what_one_visitor_says_of_a_form_is_not_repeated_to_others(gate: AuthProxy) -> None:
    with speaker(gate.port) as page, speaker(gate.port) as other:
        for each in (page, other):
            each.wait_for_picture()
        for number in range(20):
            page.say("GuiFormDirtyMessage", uuid=f"form {number}")
        page.stand(fov=1.0)
        page.wait_for_picture()
        other.listen(0.5)
        assert "GuiFormDirtyMessage" not in {each["type"] for each in other.told}
    with speaker(gate.port) as later:
        later.wait_for_picture()
        assert "GuiFormDirtyMessage" not in {each["type"] for each in later.told}
