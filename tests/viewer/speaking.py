"""A page without a browser: says on viser's websocket what a page says, or what no page would."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import viser
import zstandard
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

SECONDS = 30.0
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
def speaker(port: int) -> Iterator[Speaker]:
    """A connection to a port, with a camera, which is what begins a session."""
    offer = [Subprotocol(f"viser-v{viser.__version__}")]
    with connect(f"ws://127.0.0.1:{port}/", subprotocols=offer, max_size=None, compression=None) as connection:
        page = Speaker(connection)
        page.say(**CAMERA)
        yield page
