"""Limits on message size and rate, independent of how the bytes are split."""

import random

import pytest

from tests.viewer.raw_http import frame
from viewer import frame_limit
from viewer.frame_limit import BURST, MAX_MESSAGE, RATE, FrameSizeLimiter

CHUNK = 1 << 16


def accepts_all(data: bytes, sizes: list[int]) -> bool:
    limiter, position = FrameSizeLimiter(), 0
    for size in [*sizes, len(data)]:
        if not limiter.accept(data[position : position + size]):
            return False
        position += size
    return True


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (frame(b"") + frame(bytes(MAX_MESSAGE)) * 2, True),
        (frame(bytes(125)) + frame(bytes(126)) + frame(bytes(MAX_MESSAGE + 1))[:20], False),
        (frame(bytes(MAX_MESSAGE), 0x02) + frame(b"", 0x80), True),
        (frame(bytes(MAX_MESSAGE), 0x02) + frame(b"", 0x00) + frame(b"1", 0x80), False),
        (frame(bytes(MAX_MESSAGE), 0x01) + frame(bytes(100), 0x89) + frame(b"", 0x80), True),
        (frame(bytes(200), 0x89), False),
        (bytes([0x82, 0x7F]) + (MAX_MESSAGE + 1).to_bytes(8, "big"), False),
        (bytes([0x82, 0x7E, 0xFF, 0xFF]) + bytes(0xFFFF) + frame(b"1"), True),
    ],
)
def test_the_result_does_not_depend_on_the_chunks(data: bytes, expected: bool) -> None:
    rng = random.Random(0)
    for max_size in (1, 5, 3000):
        assert accepts_all(data, [rng.randint(0, max_size) for _ in range(300)]) is expected
    assert accepts_all(data, []) is expected


def test_at_most_a_frame_header_is_buffered() -> None:
    limiter, data = FrameSizeLimiter(), frame(bytes(CHUNK)) * 24
    for position in range(0, len(data), CHUNK):
        assert limiter.accept(data[position : position + CHUNK])
        assert len(limiter._partial_head) < 14


def test_small_messages_in_one_chunk_are_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = []
    start_frame = FrameSizeLimiter._start_frame
    monkeypatch.setattr(
        frame_limit.FrameSizeLimiter,
        "_start_frame",
        lambda limiter, head: heads.append(len(head)) or start_frame(limiter, head),
    )
    assert FrameSizeLimiter().accept(frame(b"1") * 10_000)
    assert heads == [6] * 10_000


def test_a_normal_page_is_never_delayed() -> None:
    limiter = FrameSizeLimiter()
    for tick in range(10_000):
        assert limiter.accept(frame(bytes(150)))  # a camera every 20 ms, and a slider's value every 50 ms
        assert tick % 5 or (limiter.accept(frame(bytes(60)) * 2))
        assert limiter.delay(0.02 * tick) == 0.0
    assert limiter.accept(frame(bytes(150)) * int(BURST))
    assert limiter.delay(0.02 * 10_000) < 1.0


@pytest.mark.parametrize("payload", [b"", bytes(150)])
def test_a_flood_is_delayed_to_the_rate(payload: bytes) -> None:
    limiter, now, chunk = FrameSizeLimiter(), 7.0, frame(payload) * 50
    for _ in range(200):
        assert limiter.accept(chunk)
        now += limiter.delay(now)
    assert pytest.approx(BURST + RATE * (now - 7.0), abs=1.0) == 200 * 50
    assert limiter.delay(now + 1e6) == 0.0, "silence drains the backlog"
    assert limiter.accept(frame(payload) * int(BURST + RATE))
    assert limiter.delay(now + 1e6) == pytest.approx(1.0), "but does not accumulate"
