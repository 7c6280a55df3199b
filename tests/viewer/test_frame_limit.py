"""How long messages may be: what counts, however the bytes come."""

import random

import pytest

from tests.viewer.visitors import frame
from viewer import frame_limit
from viewer.frame_limit import BURST, MAX_MESSAGE, RATE, FrameSizeLimiter

PIECE = 1 << 16


def fits(data: bytes, pieces: list[int]) -> bool:
    meter, at = FrameSizeLimiter(), 0
    for size in [*pieces, len(data)]:
        if not meter.accept(data[at : at + size]):
            return False
        at += size
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
def test_what_fits_does_not_depend_on_how_it_comes(data: bytes, expected: bool) -> None:
    chance = random.Random(0)
    for most in (1, 5, 3000):
        assert fits(data, [chance.randint(0, most) for _ in range(300)]) is expected
    assert fits(data, []) is expected


def test_no_more_than_the_head_of_a_frame_is_held() -> None:
    meter, data = FrameSizeLimiter(), frame(bytes(PIECE)) * 24
    for at in range(0, len(data), PIECE):
        assert meter.accept(data[at : at + PIECE])
        assert len(meter._head) < 14


def test_small_messages_that_come_together_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    begin = FrameSizeLimiter._begin
    monkeypatch.setattr(
        frame_limit.FrameSizeLimiter, "_begin", lambda meter, head: begun.append(len(head)) or begin(meter, head)
    )
    assert FrameSizeLimiter().accept(frame(b"1") * 10_000)
    assert begun == [6] * 10_000


def test_what_a_page_says_is_never_held_back() -> None:
    meter = FrameSizeLimiter()
    for tick in range(10_000):
        assert meter.accept(frame(bytes(150)))  # a camera every 20 ms, and a slider's value every 50 ms
        assert tick % 5 or (meter.accept(frame(bytes(60)) * 2))
        assert meter.delay(0.02 * tick) == 0.0
    assert meter.accept(frame(bytes(150)) * int(BURST))
    assert meter.delay(0.02 * 10_000) < 1.0


@pytest.mark.parametrize("payload", [b"", bytes(150)])
def test_a_flood_is_held_back_to_the_rate(payload: bytes) -> None:
    meter, now, piece = FrameSizeLimiter(), 7.0, frame(payload) * 50
    for _ in range(200):
        assert meter.accept(piece)
        now += meter.delay(now)
    assert pytest.approx(BURST + RATE * (now - 7.0), abs=1.0) == 200 * 50
    assert meter.delay(now + 1e6) == 0.0, "silence makes up for it"
    assert meter.accept(frame(payload) * int(BURST + RATE))
    assert meter.delay(now + 1e6) == pytest.approx(1.0), "but is not saved up"
