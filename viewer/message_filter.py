"""What a page may send on its websocket: how often, which messages, and one file at a time."""

import msgspec

MAX_MESSAGE = 1 << 20
"""Largest message, in bytes; a page sends at most half of that (a file part)."""
RATE, BURST = 100.0, 300.0
"""Sustained rate in messages/s, and the burst in messages allowed on top, as after a network outage. A page sends at
most one camera every 20 ms and one slider value every 50 ms."""
MAX_FILE_BYTES = 32 << 20
"""Largest uploaded file, in bytes."""
MAX_PARTS = MAX_FILE_BYTES >> 18
"""Most parts of an upload; a page sends parts of 0.5 MiB."""
DROPPED = frozenset({"ShareUrlRequest", "ShareUrlDisconnect", "GuiFormDirtyMessage"})
"""Types of messages that viser never gets: a public tunnel to the server, and form states, which viser relays to other
clients."""


class _Message(msgspec.Struct, frozen=True):
    type: str


class _UploadStart(msgspec.Struct, frozen=True):
    transfer_uuid: str
    size_bytes: int
    part_count: int


class _UploadPart(msgspec.Struct, frozen=True):
    transfer_uuid: str
    part_index: int
    content: bytes


class MessageFilter:
    """The messages of one page: at most `RATE` per second, and no upload that viser would have to buffer without limit.

    viser itself buffers every upload until it is complete, whatever its size.
    """

    def __init__(self) -> None:
        self._backlog, self._last_time = 0.0, 0.0
        """Messages ahead of the sustained rate at that time."""
        self._upload: _UploadStart | None = None
        self._parts: set[int] = set()
        """Parts of the current upload that have arrived."""
        self._bytes = 0

    def delay(self, now: float) -> float:
        """Count a message; return how many seconds to wait after it to keep to `RATE` (a leaky bucket).

        `now` is a monotonic time in seconds.

        >>> page = MessageFilter()
        >>> delays = [page.delay(10.0) for _ in range(301)]
        >>> delays[299], delays[300], page.delay(12.0)
        (0.0, 0.01, 0.0)
        """
        self._backlog = max(0.0, self._backlog - RATE * (now - self._last_time)) + 1.0
        self._last_time = now
        return max(0.0, self._backlog - BURST) / RATE

    def forwarded(self, message: bytes) -> bytes | None:
        """Return the message to forward for a page's message; None drops it.

        The start of an upload that is refused becomes that of an empty file, which ends the page's progress bar.

        Raises:
            msgspec.DecodeError: The message is not one of viser's.
        """
        kind = msgspec.msgpack.decode(message, type=_Message).type
        if kind == "FileTransferStartUpload":
            return message if self._starts(msgspec.msgpack.decode(message, type=_UploadStart)) else _emptied(message)
        if kind == "FileTransferPart":
            return message if self._continues(msgspec.msgpack.decode(message, type=_UploadPart)) else None
        return None if kind in DROPPED else message

    def _starts(self, upload: _UploadStart) -> bool:
        """Whether an upload is small enough and no other is under way."""
        fits = 0 <= upload.size_bytes <= MAX_FILE_BYTES and 0 <= upload.part_count <= MAX_PARTS
        if not fits or self._upload is not None:
            return False
        if upload.part_count > 0:
            self._upload, self._parts, self._bytes = upload, set(), 0
        return True

    def _continues(self, part: _UploadPart) -> bool:
        """Whether a part belongs to the current upload, is new, and keeps to the size, as did all parts before it."""
        upload = self._upload
        if upload is None or part.transfer_uuid != upload.transfer_uuid or part.part_index in self._parts:
            return False
        self._bytes += len(part.content)
        if not 0 <= part.part_index < upload.part_count or self._bytes > upload.size_bytes:
            return False
        self._parts.add(part.part_index)
        if len(self._parts) == upload.part_count:
            self._upload = None
        return True


def _emptied(start: bytes) -> bytes:
    """Return the start of an upload as that of an empty file."""
    fields = msgspec.msgpack.decode(start, type=dict[str, object])
    return msgspec.msgpack.encode(fields | {"size_bytes": 0, "part_count": 0})
