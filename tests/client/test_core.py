"""The client's decisions, which need no connection: pauses, transports, time and events."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardwire.clock import Instant, PauseDetector, elapsed_seconds
from guardwire.connection import TokenSource
from guardwire.endings import Ending, blocked, from_close, from_response, lost, unreachable
from guardwire.link import decode_frame, parse_address
from guardwire.messages import Heartbeat
from guardwire.mirror import SnapshotRequests
from guardwire.retry import Attempts, Backoff, TransportChoice
from guardwire.sse import EventStreamParser, TooLong
from guardwire.timing import Timing

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


def test_a_month_of_failures_does_not_overflow() -> None:
    backoff = Backoff(lambda: ALMOST_ONE)
    assert max(backoff.next_seconds() for _ in range(100_000)) <= 30


@given(st.floats(-10, 1e12), st.floats(0, 1, exclude_max=True))
def test_a_hint_is_added_to_the_delay_up_to_a_limit(hint_seconds: float, chance: float) -> None:
    pause = Backoff(lambda: chance).next_seconds(hint_seconds)
    assert min(max(hint_seconds, 0), 300) <= pause <= 300.5


# Which transport, and whether at all.


def attempts(*, has_new_tokens: bool = True) -> tuple[Attempts, TransportChoice]:
    choice = TransportChoice(3, Timing())
    return Attempts(choice, Timing(), has_new_tokens=has_new_tokens, chance=lambda: ALMOST_ONE), choice


def test_after_a_blocked_transport_the_next_one_is_tried_without_delay() -> None:
    ours, choice = attempts()
    assert ours.next_delay_seconds(blocked("no upgrade", 404).ending, None) == 0
    assert choice.index == 1
    assert ours.next_delay_seconds(blocked("no stream", 404).ending, None) == 0
    assert choice.index == 2
    # Nothing is left to try: round again, and not in a hurry.
    assert (ours.next_delay_seconds(blocked("nothing", 404).ending, None) or 0) > 0.4
    assert choice.index == 0


def test_after_two_links_without_a_frame_the_next_transport_is_tried() -> None:
    ours, choice = attempts()
    ours.next_delay_seconds(lost("cut").ending, None)
    assert choice.index == 0
    ours.next_delay_seconds(lost("cut").ending, None)
    assert choice.index == 1
    ours.next_delay_seconds(lost("cut").ending, None)
    assert choice.index == 2


def test_the_transport_stays_when_the_server_is_away_or_answers_itself() -> None:
    ours, choice = attempts()
    for ending in (
        unreachable("connection refused").ending,
        from_close(1012, "").ending,
        from_close(4409, "").ending,
        from_response(503, {}, b"", transport_refused=True).ending,
        from_response(429, {}, b"", transport_refused=True).ending,
    ):
        for _ in range(3):
            assert ours.next_delay_seconds(ending, None) is not None
    assert choice.index == 0


def test_only_a_link_that_lived_resets_the_delay() -> None:
    ours, _ = attempts()
    dropped = [ours.next_delay_seconds(lost("dropped").ending, 0.1) for _ in range(3)]
    assert [round(pause or 0, 6) for pause in dropped] == [0.5, 1, 2]
    assert round(ours.next_delay_seconds(lost("at last").ending, 60.0) or 0, 6) == 0.5


def test_only_two_refused_tokens_in_a_row_are_final() -> None:
    refusal, (ours, _) = Ending("token", 401, ""), attempts()
    assert ours.next_delay_seconds(refusal, None) is not None
    ours.note_first_frame()
    assert ours.next_delay_seconds(refusal, None) is not None
    assert ours.next_delay_seconds(refusal, None) is None
    without_callback, _ = attempts(has_new_tokens=False)
    assert without_callback.next_delay_seconds(refusal, None) is None


def test_the_best_transport_is_tried_after_growing_pauses() -> None:
    choice = TransportChoice(3, Timing())
    choice.note_failure(is_certain=True)
    assert [choice.next_return_seconds() for _ in range(6)] == [5, 15, 45, 135, 300, 300]
    choice.use_best()
    assert not choice.is_fallback
    assert choice.next_return_seconds() == 5


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
def test_a_status_may_mean_one_thing_for_a_handshake_and_another_for_a_request(
    status: int, socket_verdict: str, stream_verdict: str
) -> None:
    assert from_response(status, {}, b"", transport_refused=True).ending.verdict == socket_verdict
    assert from_response(status, {}, b"", transport_refused=False).ending.verdict == stream_verdict


def test_only_a_problem_document_is_quoted() -> None:
    def reason(body: bytes) -> str:
        return from_response(403, {}, body, transport_refused=True).ending.reason

    assert reason(b'{"title":"Forbidden","detail":"access was revoked"}') == "HTTP 403: access was revoked"
    for body in (b"", b"<html>", b"[1]", b'{"detail":7}', b"\xff"):
        assert reason(body) == "HTTP 403"


# Time.


def test_elapsed_time_is_the_larger_of_two_clocks_and_never_negative() -> None:
    assert elapsed_seconds(Instant(10, 100), Instant(12, 101)) == 2
    assert elapsed_seconds(Instant(10, 100), Instant(11, 700)) == 600
    assert elapsed_seconds(Instant(10, 100), Instant(11, 40)) == 1
    assert elapsed_seconds(Instant(10, 100), Instant(9, 40)) == 0


def test_without_a_pause_a_frame_is_as_new_as_its_reading() -> None:
    pauses = PauseDetector(at(0))
    assert pauses.tick(at(0.5)) == 0
    assert pauses.tick(at(1.1)) == 0
    assert pauses.received_at(at(1.3)) == at(1.3)


def test_frames_read_after_a_pause_may_be_as_old_as_the_pause() -> None:
    pauses = PauseDetector(at(0))
    pauses.tick(at(0.5))
    # Read before the late tick, and after it.
    assert pauses.received_at(at(9)) == at(0.5)
    assert pauses.tick(at(9)) == pytest.approx(8.0)
    assert pauses.received_at(at(9.4)) == at(0.5)
    pauses.tick(at(9.5))
    pauses.tick(at(10))
    assert pauses.received_at(at(10.1)) == at(10.1)


def test_the_wall_clock_alone_shows_that_the_machine_slept() -> None:
    pauses = PauseDetector(Instant(0, 0))
    assert pauses.tick(Instant(0.5, 600)) > 590


def test_a_snapshot_is_requested_once_and_again_when_it_is_overdue() -> None:
    requests = SnapshotRequests(Timing())
    assert not requests.should_request(is_missed=False, is_waiting=False, now=at(0))
    assert requests.should_request(is_missed=True, is_waiting=True, now=at(1))
    assert not requests.should_request(is_missed=True, is_waiting=True, now=at(2))
    assert not requests.should_repeat(at(5))
    assert requests.should_repeat(at(6))
    assert not requests.should_repeat(at(7))
    assert not requests.should_request(is_missed=False, is_waiting=False, now=at(8))
    assert not requests.should_repeat(at(60))


# Events.

BLOCKS = st.lists(st.text("ab: é", max_size=4), min_size=1, max_size=3)


@given(
    st.lists(BLOCKS, max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(1, 7), min_size=1),
)
def test_events_are_parsed_from_pieces_of_any_size(
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
def test_an_event_without_an_end_is_refused_at_a_limit(piece: bytes) -> None:
    parser = EventStreamParser(1000)
    for _ in range(17):
        parser.feed(piece)
    with pytest.raises(TooLong):
        parser.feed(piece * 4)


def test_a_frame_of_an_unknown_type_is_skipped_and_a_broken_one_is_an_error() -> None:
    assert decode_frame(b'{"type":"weather"}') is None
    for text in (b"", b"{", b"[]", b"{}", b'{"type":7}', b'{"type":"heartbeat"}', b"\xff"):
        with pytest.raises(Exception, match="is no frame"):
            decode_frame(text)
    grown = decode_frame(
        b'{"type":"heartbeat","base":1,"revision":2,"as_of":"","age_ms":3,"stale":false,"new":1}'
    )
    assert grown == Heartbeat(base=1, revision=2, as_of="", age_ms=3, stale=False)


# Addresses and tokens.


def test_one_url_gives_the_address_of_every_transport() -> None:
    for url in ("wss://host.example/desk/ws", "https://host.example/desk/", "https://host.example:443/desk"):
        ours = parse_address(url)
        assert ours.websocket_url(channels="a,b", since=None) == "wss://host.example:443/desk/ws?channels=a,b"
        assert ours.path("/api/v1/state", since="8:1") == "/desk/api/v1/state?since=8:1"
    assert parse_address("ws://[::1]:8000").authority == "[::1]:8000"
    assert parse_address("http://host").port == 80


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
