"""A page without a browser: says on viser's websocket what a page says, or what no page would."""

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import cv2
import msgspec
import numpy as np
import viser
import zstandard
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

SECONDS = 30.0
PANEL = "GuiHtmlMessage"
"""Kind of a message that a visitor with a session is sent."""
CAMERA: dict[str, Any] = {
    "kind": "ViewerCameraMessage",
    "wxyz": (0.5, -0.5, 0.5, -0.5),
    "position": (-35.0, -1.6, 2.3),
    "fov": 0.9,
    "near": 0.01,
    "far": 1000.0,
    "image_height": 90,
    "image_width": 160,
    "look_at": (0.0, -1.6, 2.3),
    "up_direction": (0.0, 0.0, 1.0),
}


def messages(frame: bytes) -> list[dict[str, Any]]:
    """What viser says in a frame."""
    size = int.from_bytes(frame[8:16], "little")
    told: list[dict[str, Any]] = msgspec.msgpack.decode(zstandard.decompress(frame[16 : 16 + size]))["messages"]
    return told


def is_picture(message: dict[str, Any]) -> bool:
    """Whether it is one of the city; viser itself begins with none for the background."""
    return message["type"] == "BackgroundImageMessage" and message["rgb_data"] is not None


def decoded(data: bytes) -> np.ndarray:
    """The pixels of a picture, or of its depth."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


class Speaker:
    """One connection, and what it was told."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection, self.told = connection, []  # type: ignore[var-annotated]

    def say(self, kind: str, **fields: Any) -> None:
        self.connection.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def listen(self, seconds: float) -> list[dict[str, Any]]:
        """All that is told within a time, or until the connection ends; kept in `told`."""
        until, news = time.monotonic() + seconds, []
        with contextlib.suppress(TimeoutError):
            while (left := until - time.monotonic()) > 0:
                frame = self.connection.recv(left)
                assert isinstance(frame, bytes)
                news += messages(frame)
        self.told += news
        return news

    def pictures(self) -> int:
        """How many it was shown."""
        return sum(is_picture(each) for each in self.told)

    def wait_for_picture(self) -> None:
        """Listen until there is a new one."""
        deadline, before = time.monotonic() + SECONDS, self.pictures()
        while self.pictures() == before:
            assert time.monotonic() < deadline, "no picture came"
            self.listen(0.3)

    def stand(self, **changes: Any) -> None:
        """Say where the page's camera is."""
        self.say(**CAMERA | changes)

    def uuid(self, label: str) -> str:
        """That of the panel's element with a label."""
        self.wait_for("GuiUploadButtonMessage")  # near the panel's end
        panel = [each for each in self.told if each["type"].startswith("Gui") and each["type"] != "GuiFolderMessage"]
        (found,) = [each["uuid"] for each in panel if each.get("props", {}).get("label") == label]
        return str(found)

    def set(self, label: str, value: Any) -> None:
        """Give an element of the panel a value; True presses a button."""
        self.say("GuiUpdateMessage", uuid=self.uuid(label), updates={"value": value})

    def at_rest(self, height: int = CAMERA["image_height"]) -> np.ndarray:
        """The picture that shows once no finer one is to come: one as high as asked for, and then none."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            news = [each for each in self.listen(0.5) if is_picture(each)]
            shown = [each for each in self.told if is_picture(each)]
            if shown and not news:
                image = decoded(shown[-1]["rgb_data"])[..., :3]
                if len(image) == height:
                    return image.astype(np.float64)
        raise AssertionError(f"no picture of {height} lines came to rest")

    def turns(self, label: str, value: Any, height: int = CAMERA["image_height"]) -> np.ndarray:
        """Give an element another value, wait for the picture that is made of it, and see that come to rest."""
        self.set(label, value)
        self.wait_for_picture()
        return self.at_rest(height)

    def said(self) -> list[str]:
        """What the panel's texts have become, in turn."""
        updates = [each["updates"] for each in self.told if each["type"] == "GuiUpdateMessage"]
        return [value for each in updates for value in each.values() if isinstance(value, str)]

    def states(self) -> dict[str, str]:
        """What the plan says became of each block."""
        return dict(
            re.findall(r'data-block="(\w+)" data-state="(\w+)"', [each for each in self.said() if "<svg" in each][-1])
        )

    def answers(self, label: str, value: Any, what: str) -> None:
        """Give an element a value, and wait until a text of the panel says that."""
        self.set(label, value)
        self.wait_to_hear(what)

    def wait_to_hear(self, what: str) -> None:
        """Wait until a text of the panel that is new says that."""
        deadline, news = time.monotonic() + SECONDS, list[str]()
        while not any(what in text for text in news):
            assert time.monotonic() < deadline, f"{what!r} was not said, but {news}"
            before = len(self.said())
            self.listen(0.1)
            news += self.said()[before:]

    def wait_for(self, kind: str) -> dict[str, Any]:
        """The first message of a kind."""
        deadline, seen = time.monotonic() + SECONDS, 0
        while time.monotonic() < deadline:
            for message in self.told[seen:]:
                if message["type"] == kind:
                    return message
            seen = len(self.told)
            self.listen(0.3)
        raise AssertionError(f"no {kind} in {sorted({each['type'] for each in self.told})}")


@contextlib.contextmanager
def speaker(port: int, **camera: Any) -> Iterator[Speaker]:
    """A connection to a port, with a camera, which is what begins a session."""
    offer = [Subprotocol(f"viser-v{viser.__version__}")]
    with connect(f"ws://127.0.0.1:{port}/", subprotocols=offer, max_size=None, compression=None) as connection:
        page = Speaker(connection)
        page.stand(**camera)
        yield page
