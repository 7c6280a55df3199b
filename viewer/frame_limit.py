"""How long a visitor's messages may be, and how many: told from the heads of websocket frames, before they are held."""

MAX_MESSAGE = 1 << 20
"""Bytes of a message; a page sends half of it at most, a part of a file."""
RATE, BURST = 100.0, 300.0
"""Frames a second that are passed on for long, and how many more at once, as after a stretch without network. A page
sends a camera every 20 ms and a slider's value every 50 ms at most."""
CONTROL, END, MASKED = 0x08, 0x80, 0x80
"""Bits of a frame's head (RFC 6455, section 5.2): of its kind, its message's last one, and followed by a mask."""


class FrameSizeLimiter:
    """Follows what a visitor says on a websocket, frame by frame, and holds at most the head of one.

    >>> meter = FrameSizeLimiter()
    >>> meter.accept(bytes([0x82, 0x83]) + b"maskabc")
    True
    >>> meter.accept(bytes([0x82, 0xFF]) + (1 << 40).to_bytes(8, "big") + b"mask")
    False
    """

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        """Bytes of the present frame that are yet to come."""
        self._size = 0
        """Of the present message, in the frames that have come."""
        self._new = 0
        """Frames that have come since `delay` was asked."""
        self._ahead, self._now = 0.0, 0.0
        """How many were too early at that time."""

    def delay(self, now: float) -> float:
        """Seconds to hold the bytes that came last, so that no more than `RATE` frames a second pass for long.

        `now` is a time in seconds that never goes back.

        >>> meter = FrameSizeLimiter()
        >>> meter.accept(bytes([0x82, 0x00]) * 500)
        True
        >>> meter.delay(10.0), meter.delay(12.0)
        (2.0, 0.0)
        """
        self._ahead = max(0.0, self._ahead - RATE * (now - self._now)) + self._new
        self._new, self._now = 0, now
        return max(0.0, self._ahead - BURST) / RATE

    def accept(self, chunk: bytes) -> bool:
        """Whether no message up to here is too long, as far as is known after these bytes."""
        data, at = self._head + chunk, 0
        self._head = b""
        while (at := at + self._skip(len(data) - at)) < len(data):
            length = _head_length(data[at : at + 2])
            head = data[at : at + length]
            if len(head) < length:
                self._head = head
                break
            if not self._begin(head):
                return False
            at += length
        return True

    def _skip(self, present: int) -> int:
        """How many of the bytes that are present belong to the present frame."""
        taken = min(self._left, present)
        self._left -= taken
        return taken

    def _begin(self, head: bytes) -> bool:
        self._new += 1
        short = head[1] & 0x7F
        self._left = int.from_bytes(head[2 : 2 + _extended(short)], "big") if short > 125 else short
        if head[0] & CONTROL:
            return self._left <= 125
        size = self._size + self._left
        self._size = 0 if head[0] & END else size
        return size <= MAX_MESSAGE


def _head_length(start: bytes) -> int:
    """Bytes of a frame's head, by its first two."""
    if len(start) < 2:
        return 2
    return 2 + _extended(start[1] & 0x7F) + (4 if start[1] & MASKED else 0)


def _extended(short: int) -> int:
    """Bytes of a frame's length beside the short one."""
    return {126: 2, 127: 8}.get(short, 0)
