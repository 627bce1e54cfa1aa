"""The client's decisions, which need no connection: pauses, transports, time and events."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardwire import address
from guardwire.attempts import Attempts
from guardwire.backoff import Backoff
from guardwire.clock import Instant, elapsed_seconds
from guardwire.ending import Ending, answered, blocked, closed, lost, unreachable
from guardwire.event_stream import EventStreamParser, TooLong
from guardwire.ladder import Ladder
from guardwire.link import decode
from guardwire.messages import Heartbeat
from guardwire.pulse import Pulse
from guardwire.snapshot_wait import SnapshotWait
from guardwire.token import TokenSource

ALMOST_ONE = math.nextafter(1, 0)


def at(seconds: float) -> Instant:
    return Instant(seconds, seconds)


# Pauses.


def test_pauses_grow_from_half_a_second_to_thirty_and_are_full_jitter() -> None:
    longest, shortest = Backoff(lambda: ALMOST_ONE), Backoff(lambda: 0.0)
    assert [round(longest.next_seconds(), 6) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert [shortest.next_seconds() for _ in range(9)] == [0] * 9
    longest.reset()
    assert round(longest.next_seconds(), 6) == 0.5


def test_a_month_of_failures_is_no_overflow() -> None:
    backoff = Backoff(lambda: ALMOST_ONE)
    assert max(backoff.next_seconds() for _ in range(100_000)) <= 30


@given(st.floats(-10, 1e12), st.floats(0, 1, exclude_max=True))
def test_a_hint_is_honoured_in_reason(hint_seconds: float, chance: float) -> None:
    pause = Backoff(lambda: chance).next_seconds(hint_seconds)
    assert min(max(hint_seconds, 0), 300) <= pause <= 300.5


# Which transport, and whether at all.


def attempts(*, renewable: bool = True) -> Attempts:
    return Attempts(3, renewable=renewable, chance=lambda: ALMOST_ONE)


def test_a_transport_that_is_blocked_is_left_at_once_and_without_a_pause() -> None:
    ours = attempts()
    assert ours.ended(blocked("no upgrade", 404).ending, None) == 0
    assert ours.ladder.rung == 1
    assert ours.ended(blocked("no stream", 404).ending, None) == 0
    assert ours.ladder.rung == 2
    # Nothing is left to try: round again, and not in a hurry.
    assert (ours.ended(blocked("nothing", 404).ending, None) or 0) > 0.4
    assert ours.ladder.rung == 0


def test_a_transport_that_brings_no_frame_twice_is_left() -> None:
    ours = attempts()
    ours.ended(lost("cut").ending, None)
    assert ours.ladder.rung == 0
    ours.ended(lost("cut").ending, None)
    assert ours.ladder.rung == 1
    ours.ended(lost("cut").ending, None)
    assert ours.ladder.rung == 2


def test_a_server_that_is_gone_or_speaks_for_itself_says_nothing_against_the_transport() -> None:
    ours = attempts()
    for ending in (
        unreachable("connection refused").ending,
        closed(1012, "").ending,
        closed(4409, "").ending,
        answered(503, {}, b"", transport_refused=True).ending,
        answered(429, {}, b"", transport_refused=True).ending,
    ):
        for _ in range(3):
            assert ours.ended(ending, None) is not None
    assert ours.ladder.rung == 0


def test_links_that_live_reset_the_pauses_and_links_that_drop_at_once_do_not() -> None:
    ours = attempts()
    dropped = [ours.ended(lost("dropped").ending, 0.1) for _ in range(3)]
    assert [round(pause or 0, 6) for pause in dropped] == [0.5, 1, 2]
    assert round(ours.ended(lost("at last").ending, 60.0) or 0, 6) == 0.5


def test_two_tokens_refused_in_a_row_are_the_end_and_one_in_between_is_not() -> None:
    refusal, ours = Ending("token", 401, ""), attempts()
    assert ours.ended(refusal, None) is not None
    ours.proved()
    assert ours.ended(refusal, None) is not None
    assert ours.ended(refusal, None) is None
    assert attempts(renewable=False).ended(refusal, None) is None


def test_returns_to_the_best_transport_are_tried_less_and_less_often() -> None:
    ladder = Ladder(3)
    ladder.failed(certainly=True)
    assert [ladder.next_return_seconds() for _ in range(6)] == [5, 15, 45, 135, 300, 300]
    ladder.climb()
    assert not ladder.fallen_back
    assert ladder.next_return_seconds() == 5


@pytest.mark.parametrize(
    ("status", "socket_verdict", "stream_verdict"),
    [
        (200, "blocked", "blocked"),
        (302, "blocked", "blocked"),
        (400, "blocked", "refused"),
        (401, "token", "token"),
        (403, "refused", "refused"),
        (404, "blocked", "blocked"),
        (422, "blocked", "refused"),
        (426, "blocked", "blocked"),
        (429, "retry", "retry"),
        (431, "blocked", "blocked"),
        (500, "retry", "retry"),
        (502, "retry", "retry"),
        (503, "retry", "retry"),
    ],
)
def test_a_status_means_one_thing_for_a_handshake_and_may_mean_another_for_a_request(
    status: int, socket_verdict: str, stream_verdict: str
) -> None:
    assert answered(status, {}, b"", transport_refused=True).ending.verdict == socket_verdict
    assert answered(status, {}, b"", transport_refused=False).ending.verdict == stream_verdict


def test_a_problem_document_is_quoted_and_anything_else_is_not() -> None:
    def reason(body: bytes) -> str:
        return answered(403, {}, body, transport_refused=True).ending.reason

    assert reason(b'{"title":"Forbidden","detail":"access was revoked"}') == "HTTP 403: access was revoked"
    for body in (b"", b"<html>", b"[1]", b'{"detail":7}', b"\xff"):
        assert reason(body) == "HTTP 403"


# Time.


def test_the_larger_of_two_clocks_counts_and_never_a_negative_step() -> None:
    assert elapsed_seconds(Instant(10, 100), Instant(12, 101)) == 2
    assert elapsed_seconds(Instant(10, 100), Instant(11, 700)) == 600
    assert elapsed_seconds(Instant(10, 100), Instant(11, 40)) == 1
    assert elapsed_seconds(Instant(10, 100), Instant(9, 40)) == 0


def test_a_pulse_that_beats_dates_frames_when_they_are_read() -> None:
    pulse = Pulse(at(0))
    assert pulse.beat(at(0.5)) == 0
    assert pulse.beat(at(1.1)) == 0
    assert pulse.received_at(at(1.3)) == at(1.3)


def test_frames_read_after_a_pause_may_be_as_old_as_the_pause() -> None:
    pulse = Pulse(at(0))
    pulse.beat(at(0.5))
    # Read before the late beat, and after it.
    assert pulse.received_at(at(9)) == at(0.5)
    assert pulse.beat(at(9)) == pytest.approx(8.0)
    assert pulse.received_at(at(9.4)) == at(0.5)
    pulse.beat(at(9.5))
    pulse.beat(at(10))
    assert pulse.received_at(at(10.1)) == at(10.1)


def test_a_machine_that_slept_is_noticed_by_its_wall_clock_alone() -> None:
    pulse = Pulse(Instant(0, 0))
    assert pulse.beat(Instant(0.5, 600)) > 590


def test_a_snapshot_is_asked_for_once_and_again_when_it_is_overdue() -> None:
    wait = SnapshotWait()
    assert not wait.asks_after(missed=False, waiting=False, now=at(0))
    assert wait.asks_after(missed=True, waiting=True, now=at(1))
    assert not wait.asks_after(missed=True, waiting=True, now=at(2))
    assert not wait.asks_again(at(5))
    assert wait.asks_again(at(6))
    assert not wait.asks_again(at(7))
    assert not wait.asks_after(missed=False, waiting=False, now=at(8))
    assert not wait.asks_again(at(60))


# Events.

BLOCKS = st.lists(st.text("ab: é", max_size=4), min_size=1, max_size=3)


@given(
    st.lists(BLOCKS, max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(1, 7), min_size=1),
)
def test_events_come_out_whole_however_they_were_cut(
    blocks: list[list[str]], line_end: str, cuts: list[int]
) -> None:
    text = "".join(
        line_end.join([": noise", "id: 1", *(f"data: {line}" for line in block), "", ""]) for block in blocks
    )
    wire, parser, events = text.encode(), EventStreamParser(1000), []
    turn = 0
    while wire:
        size = cuts[turn % len(cuts)]
        turn += 1
        piece, wire = wire[:size], wire[size:]
        events += parser.feed(piece)
    # A carriage return at the very end may be half a line end, so the last event may still be open.
    events += parser.feed(b": end\n")
    assert events == ["\n".join(block).encode() for block in blocks]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 50 + b"\n", b"x" * 50])
def test_an_event_that_never_ends_is_not_remembered_for_ever(piece: bytes) -> None:
    parser = EventStreamParser(1000)
    for _ in range(17):
        parser.feed(piece)
    with pytest.raises(TooLong):
        parser.feed(piece * 4)


def test_frames_that_servers_may_invent_are_passed_over_and_broken_ones_are_not() -> None:
    assert decode(b'{"type":"weather"}') is None
    for text in (b"", b"{", b"[]", b"{}", b'{"type":7}', b'{"type":"heartbeat"}', b"\xff"):
        with pytest.raises(Exception, match="is no frame"):
            decode(text)
    grown = decode(b'{"type":"heartbeat","base":1,"revision":2,"as_of":"","age_ms":3,"stale":false,"new":1}')
    assert grown == Heartbeat(base=1, revision=2, as_of="", age_ms=3, stale=False)


# Addresses and tokens.


def test_one_url_gives_the_address_of_every_transport() -> None:
    for url in ("wss://host.example/desk/ws", "https://host.example/desk/", "https://host.example:443/desk"):
        ours = address.parse(url)
        assert ours.websocket_url(channels="a,b", since=None) == "wss://host.example:443/desk/ws?channels=a,b"
        assert ours.path("/api/v1/state", since="8:1") == "/desk/api/v1/state?since=8:1"
    assert address.parse("ws://[::1]:8000").authority == "[::1]:8000"
    assert address.parse("http://host").port == 80


async def test_a_token_comes_from_a_text_a_function_or_a_coroutine() -> None:
    async def fetch() -> str:
        return "async"

    assert await TokenSource("text\n").fetch() == "text"
    assert await TokenSource(lambda: "sync").fetch() == "sync"
    assert await TokenSource(fetch).fetch() == "async"
    with pytest.raises(TypeError, match="gave NoneType"):
        await TokenSource(lambda: None).fetch()  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="is empty"):
        await TokenSource(lambda: " ").fetch()
