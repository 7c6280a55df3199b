"""Limits on the size and rate of a client's websocket messages, read from frame headers before buffering."""

MAX_MESSAGE = 1 << 20
"""Largest message, in bytes; a page sends at most half of that (a file part)."""
RATE, BURST = 100.0, 300.0
"""Sustained rate in frames/s, and the burst in frames allowed on top, as after a network outage. A page sends at most
one camera every 20 ms and one slider value every 50 ms."""
CONTROL, END, MASKED = 0x08, 0x80, 0x80
"""Bits of a frame header (RFC 6455, section 5.2): control opcode, final frame of a message, masked payload."""


class FrameSizeLimiter:
    """Checks a client's websocket stream frame by frame, buffering at most one frame header.

    >>> limiter = FrameSizeLimiter()
    >>> limiter.accept(bytes([0x82, 0x83]) + b"maskabc")
    True
    >>> limiter.accept(bytes([0x82, 0xFF]) + (1 << 40).to_bytes(8, "big") + b"mask")
    False
    """

    def __init__(self) -> None:
        self._partial_head = b""
        self._payload_left = 0
        """Payload bytes of the current frame that have not arrived."""
        self._message_size = 0
        """Bytes of the current message in the frames so far."""
        self._new_frames = 0
        """Frames since the last call of `delay`."""
        self._backlog, self._last_time = 0.0, 0.0
        """Frames ahead of the sustained rate at that time."""

    def delay(self, now: float) -> float:
        """Return how many seconds to delay the last bytes to keep to `RATE` frames/s (a leaky bucket).

        `now` is a monotonic time in seconds.

        >>> limiter = FrameSizeLimiter()
        >>> limiter.accept(bytes([0x82, 0x00]) * 500)
        True
        >>> limiter.delay(10.0), limiter.delay(12.0)
        (2.0, 0.0)
        """
        self._backlog = max(0.0, self._backlog - RATE * (now - self._last_time)) + self._new_frames
        self._new_frames, self._last_time = 0, now
        return max(0.0, self._backlog - BURST) / RATE

    def accept(self, chunk: bytes) -> bool:
        """Whether all messages up to these bytes are short enough."""
        data, position = self._partial_head + chunk, 0
        self._partial_head = b""
        while (position := position + self._skip_payload(len(data) - position)) < len(data):
            length = _head_length(data[position : position + 2])
            head = data[position : position + length]
            if len(head) < length:
                self._partial_head = head
                break
            if not self._start_frame(head):
                return False
            position += length
        return True

    def _skip_payload(self, available: int) -> int:
        """Consume payload of the current frame; return how many of the available bytes belong to it."""
        count = min(self._payload_left, available)
        self._payload_left -= count
        return count

    def _start_frame(self, head: bytes) -> bool:
        self._new_frames += 1
        short = head[1] & 0x7F
        self._payload_left = int.from_bytes(head[2 : 2 + _extended_bytes(short)], "big") if short > 125 else short
        if head[0] & CONTROL:
            return self._payload_left <= 125
        size = self._message_size + self._payload_left
        self._message_size = 0 if head[0] & END else size
        return size <= MAX_MESSAGE


def _head_length(start: bytes) -> int:
    """Return the size of a frame header from its first two bytes."""
    if len(start) < 2:
        return 2
    return 2 + _extended_bytes(start[1] & 0x7F) + (4 if start[1] & MASKED else 0)


def _extended_bytes(short: int) -> int:
    """Return the size of the extended length field."""
    return {126: 2, 127: 8}.get(short, 0)
