"""A client without a browser: sends on viser's websocket what a page sends, or what no page would."""

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

TIMEOUT = 30.0
PANEL = "GuiHtmlMessage"
"""Type of a message that only a client with a session gets."""
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
    """Return viser's messages in a websocket frame."""
    size = int.from_bytes(frame[8:16], "little")
    decoded: list[dict[str, Any]] = msgspec.msgpack.decode(zstandard.decompress(frame[16 : 16 + size]))["messages"]
    return decoded


def is_rendering(message: dict[str, Any]) -> bool:
    """Whether a message is a rendering of the city; viser itself first sends an empty background."""
    return message["type"] == "BackgroundImageMessage" and message["rgb_data"] is not None


def decode_image(data: bytes) -> np.ndarray:
    """Return the pixels of a rendering or of its depth."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


class PageClient:
    """One websocket connection, and all messages it received."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection, self.received = connection, []  # type: ignore[var-annotated]

    def send(self, kind: str, **fields: Any) -> None:
        self.connection.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def receive(self, seconds: float) -> list[dict[str, Any]]:
        """Return all messages within a time, or until the connection ends; also appended to `received`."""
        until, new = time.monotonic() + seconds, []
        with contextlib.suppress(TimeoutError):
            while (left := until - time.monotonic()) > 0:
                frame = self.connection.recv(left)
                assert isinstance(frame, bytes)
                new += messages(frame)
        self.received += new
        return new

    def num_renderings(self) -> int:
        """Return the number of renderings so far."""
        return sum(is_rendering(message) for message in self.received)

    def wait_for_rendering(self) -> None:
        """Wait for another rendering."""
        deadline, before = time.monotonic() + TIMEOUT, self.num_renderings()
        while self.num_renderings() == before:
            assert time.monotonic() < deadline, "no rendering arrived"
            self.receive(0.3)

    def set_camera(self, **changes: Any) -> None:
        """Send the page's camera, with some changed fields."""
        self.send(**CAMERA | changes)

    def uuid(self, label: str) -> str:
        """Return the UUID of the newest panel element with a label."""
        self.wait_for("GuiUploadButtonMessage")  # near the panel's end
        panel = [entry for entry in self.received if entry["type"].startswith("Gui")]
        panel = [entry for entry in panel if entry["type"] != "GuiFolderMessage"]
        *_, uuid = [entry["uuid"] for entry in panel if entry.get("props", {}).get("label") == label]
        return str(uuid)

    def set(self, label: str, value: Any) -> None:
        """Set the value of a panel element; True presses a button."""
        self.send("GuiUpdateMessage", uuid=self.uuid(label), updates={"value": value})

    def final_rendering(self, height: int = CAMERA["image_height"]) -> np.ndarray:
        """Wait for a rendering of full height with no other after it, and return it."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            new = [message for message in self.receive(0.5) if is_rendering(message)]
            renderings = [message for message in self.received if is_rendering(message)]
            if renderings and not new:
                image = decode_image(renderings[-1]["rgb_data"])[..., :3]
                if len(image) == height:
                    return image.astype(np.float64)
        raise AssertionError(f"no final rendering of height {height} arrived")

    def render_with(self, label: str, value: Any, height: int = CAMERA["image_height"]) -> np.ndarray:
        """Set a panel element, and return the final rendering with it."""
        self.set(label, value)
        self.wait_for_rendering()
        return self.final_rendering(height)

    def texts(self) -> list[str]:
        """Return the updates of the panel's texts, in order."""
        updates = [message["updates"] for message in self.received if message["type"] == "GuiUpdateMessage"]
        return [value for update in updates for value in update.values() if isinstance(value, str)]

    def states(self) -> dict[str, str]:
        """Return the state of each block on the minimap."""
        minimap = [text for text in self.texts() if "<svg" in text][-1]
        return dict(re.findall(r'data-block="(\w+)" data-state="(\w+)"', minimap))

    def set_and_wait(self, label: str, value: Any, text: str) -> None:
        """Set a panel element, and wait until a new panel text contains a text."""
        self.set(label, value)
        self.wait_for_text(text)

    def wait_for_text(self, text: str) -> None:
        """Wait until a new panel text contains a text."""
        deadline, new = time.monotonic() + TIMEOUT, list[str]()
        while not any(text in update for update in new):
            assert time.monotonic() < deadline, f"no panel text with {text!r}, but {new}"
            before = len(self.texts())
            self.receive(0.1)
            new += self.texts()[before:]

    def wait_for(self, kind: str) -> dict[str, Any]:
        """Return the first message of a type."""
        deadline, checked = time.monotonic() + TIMEOUT, 0
        while time.monotonic() < deadline:
            for message in self.received[checked:]:
                if message["type"] == kind:
                    return message
            checked = len(self.received)
            self.receive(0.3)
        raise AssertionError(f"no {kind} in {sorted({message['type'] for message in self.received})}")


@contextlib.contextmanager
def open_client(port: int, **camera: Any) -> Iterator[PageClient]:
    """Connect to a port and send a camera, which starts a session."""
    subprotocols = [Subprotocol(f"viser-v{viser.__version__}")]
    with connect(f"ws://127.0.0.1:{port}/", subprotocols=subprotocols, max_size=None, compression=None) as connection:
        client = PageClient(connection)
        client.set_camera(**camera)
        yield client
