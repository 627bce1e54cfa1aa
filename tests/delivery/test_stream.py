"""Every decision about one client's stream, on the pure class, with a clock of the test's own."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from auth.identity import ACK_SCOPE, MANAGE_SCOPE, Identity
from auth.refusals import refusal
from guardwire.errors import CloseCode
from guardwire.messages import (
    Ack,
    AckOk,
    AlertFrame,
    Attend,
    Auth,
    ClientFrame,
    Error,
    Hello,
    Leave,
    Resume,
    Resync,
    Snooze,
    Subscribe,
    Unsubscribe,
)
from guardwire.patch import diff
from guardwire.state import CHANNELS
from realtime.delivery.sent_state import Frame
from realtime.delivery.stream import (
    EARLY_SECONDS,
    NOTHING,
    Close,
    Outputs,
    Perform,
    Stream,
    Timing,
    Verify,
    close_after,
)
from realtime.errors import RETRY_AFTER_MS, StreamClosed, TooManyClaims, UnavailableError
from realtime.history import Edge
from realtime.owners import WrongOwner
from realtime.snapshot import Snapshot
from tests.snapshots import FRESH, OTHER_USER, USER, snapshot

#: A moment in monotonic seconds, and the same moment in unix seconds.
START: Final = 1_000.0
WALL: Final = 1_800_000_000.0
TIMING: Final = Timing()


ACK: Final = Ack(alerts={"a": 1, "b": 2}, by="closer-1")
SNOOZE: Final = Snooze(alert="a", generation=1, seconds=60, by="closer-1", reason="closing by hand")
ATTEND: Final = Attend(by="closer-1", lease_seconds=15)
LEAVE: Final = Leave(by="closer-1")


def identity(
    *, user_id: Any = USER, lifetime_seconds: float = 3_600.0, scopes: frozenset[str] = frozenset()
) -> Identity:
    return Identity(
        user_id=user_id, subject=str(user_id), issuer="desk", audience="bots", token_id="1", key_fingerprint=b"k",
        issued_at=WALL, expires_at=WALL + lifetime_seconds, scopes=scopes,
    )  # fmt: skip


def anonymous(timing: Timing = TIMING) -> Stream:
    return Stream(START, timing, 255)


def identified(
    timing: Timing = TIMING, *, lifetime_seconds: float = 3_600.0, scopes: frozenset[str] = frozenset()
) -> Stream:
    return Stream(START, timing, 255, identity(lifetime_seconds=lifetime_seconds, scopes=scopes))


def opened(
    timing: Timing = TIMING, *, lifetime_seconds: float = 3_600.0, scopes: frozenset[str] = frozenset()
) -> Stream:
    """A stream whose client holds `snapshot(5)` since `START`."""
    stream = identified(timing, lifetime_seconds=lifetime_seconds, scopes=scopes)
    stream.open(snapshot(5), FRESH, START, channels=CHANNELS)
    return stream


def tick(stream: Stream, seconds: float) -> Outputs:
    """The outputs that are due so many seconds after `START`."""
    return stream.tick(START + seconds, WALL + seconds, FRESH)


def read(output: Any) -> dict[str, Any]:
    assert isinstance(output, Frame)
    frame: dict[str, Any] = json.loads(output.payload)
    assert frame["type"] == output.type
    return frame


def types(outputs: Outputs) -> list[str]:
    return [each.type if isinstance(each, Frame) else type(each).__name__ for each in outputs]


def closing(outputs: Outputs) -> Close:
    (last,) = outputs
    assert isinstance(last, Close)
    return last


def steps() -> tuple[list[Snapshot], list[Edge]]:
    taken = [snapshot(5), snapshot(6, syncs=2), snapshot(7, equity=9.0)]
    edges = [
        Edge(USER, old.revision, new.revision, json.dumps(diff(old.state, new.state)).encode())
        for old, new in itertools.pairwise(taken)
    ]
    return taken, edges


# Open and resume.


def test_it_opens_with_a_welcome_and_a_snapshot() -> None:
    welcome, first = identified().open(snapshot(5), FRESH, START, channels=("guards",))
    assert read(welcome) == {
        "type": "welcome", "session": "00000000000000ff", "epoch": 9, "channels": ["guards"],
        "expires_at": int(WALL + 3_600), "heartbeat_seconds": 5.0, "resumed": False,
        "offers": {"channels": list(CHANNELS), "frames": ["ack", "snooze", "attend", "leave"]},
    }  # fmt: skip
    assert read(first)["state"] == {"guards": snapshot(5).state["guards"]}


def test_a_resume_along_a_path_gives_each_frame_the_position_that_the_client_holds_after_it() -> None:
    taken, path = steps()
    stream = identified()
    outputs = stream.open(
        taken[-1], FRESH, START, channels=CHANNELS, resume=Resume(epoch=9, revision=5), path=path
    )
    assert types(outputs) == ["welcome", "update", "update"]
    assert read(outputs[0])["resumed"] is True
    assert [(each.epoch, each.revision) for each in outputs[1:] if isinstance(each, Frame)] == [
        (9, 6),
        (9, 7),
    ]


def test_where_there_is_no_path_a_resume_gets_a_snapshot() -> None:
    outputs = identified().open(
        snapshot(7), FRESH, START, channels=CHANNELS, resume=Resume(epoch=9, revision=5), path=None
    )
    assert types(outputs) == ["welcome", "snapshot"]
    assert read(outputs[0])["resumed"] is False


def test_a_stale_account_is_announced_when_the_stream_opens() -> None:
    outputs = identified().open(snapshot(5), FRESH, START, channels=CHANNELS, stale=True)
    assert types(outputs) == ["welcome", "snapshot", "heartbeat"]
    assert read(outputs[2])["stale"] is True


def test_a_poll_gets_one_step_as_an_update_and_several_as_a_snapshot() -> None:
    taken, path = steps()

    def polled(newest: Snapshot, path: list[Edge] | None) -> list[str]:
        since = Resume(epoch=9, revision=5)
        stream = identified()
        return types(
            stream.open_for_poll(newest, FRESH, channels=CHANNELS, since=since, path=path, stale=False)
        )

    assert polled(taken[0], []) == []
    assert polled(taken[1], path[:1]) == ["update"]
    assert polled(taken[2], path) == ["snapshot"]
    assert polled(taken[2], None) == ["snapshot"]


def test_a_poll_that_waits_goes_on_from_the_revision_that_the_client_holds() -> None:
    stream, since = identified(), Resume(epoch=9, revision=5)
    quiet = Edge(USER, 5, 6, b'{"status":{"total_syncs":2}}')
    outputs = stream.open_for_poll(
        snapshot(6, syncs=2), FRESH, channels=("guards",), since=since, path=[quiet], stale=False
    )
    assert outputs == []
    (update,) = stream.newer(snapshot(7, syncs=2, equity=1.0), FRESH, START + 1)
    assert (read(update)["base"], read(update)["revision"]) == (5, 7)


# Send.


def test_a_newer_snapshot_is_sent_as_an_update_and_an_older_one_is_not() -> None:
    stream = opened()
    assert types(stream.newer(snapshot(6, syncs=2), FRESH, START + 1)) == ["update"]
    assert stream.newer(snapshot(5), FRESH, START + 2) == NOTHING


def test_nothing_is_sent_before_the_stream_is_open() -> None:
    assert identified().newer(snapshot(6), FRESH, START) == NOTHING
    assert not tick(identified(), 4.9)


def test_a_blocked_client_gets_one_update_of_all_that_has_changed() -> None:
    stream = opened()
    stream.block(START + 1)
    for revision in range(6, 20):
        assert stream.newer(snapshot(revision, syncs=revision), FRESH, START + 1) == NOTHING
    (update,) = stream.unblock(snapshot(19, syncs=19), FRESH, START + 2)
    assert (read(update)["base"], read(update)["revision"]) == (5, 19)


def test_a_blocked_client_learns_that_the_account_became_stale_once_it_takes_more() -> None:
    stream = opened()
    stream.block(START + 1)
    assert stream.stale(True, FRESH, START + 2) == NOTHING
    (heartbeat,) = stream.unblock(snapshot(5), FRESH, START + 3)
    assert read(heartbeat)["stale"] is True


def test_a_client_that_takes_nothing_is_cut_at_the_send_deadline() -> None:
    stream = opened()
    stream.block(START + 1)
    assert not tick(stream, 10.9)
    last = closing(tick(stream, 11.0))
    assert (last.code, last.cuts) == (CloseCode.TOO_SLOW, True)


@pytest.mark.parametrize("seconds", [0.1, 3.0, 4.9])
def test_a_deadline_that_begins_between_two_looks_is_noticed_in_time(seconds: float) -> None:
    stream = opened()
    tick(stream, 0.0)
    stream.block(START + seconds)
    while not stream.has_ended:
        at = stream.next_due - START
        tick(stream, at)
    assert at <= seconds + TIMING.send_deadline_seconds + TIMING.longest_wait_seconds


# Heartbeats and pings.


def test_a_quiet_stream_gets_a_heartbeat_and_an_update_puts_it_off() -> None:
    stream = opened()
    assert types(tick(stream, 5.0)) == ["heartbeat"]
    stream.newer(snapshot(6, syncs=2), FRESH, START + 8)
    assert not tick(stream, 10.0)
    assert stream.next_due == START + 13
    assert types(tick(stream, 13.0)) == ["heartbeat"]


def test_a_heartbeat_that_is_nearly_due_is_sent_when_the_stream_is_looked_at() -> None:
    assert not tick(opened(), 5.0 - EARLY_SECONDS)
    assert types(tick(opened(), 5.01 - EARLY_SECONDS)) == ["heartbeat"]


def test_staleness_is_sent_at_once_and_only_when_it_changes() -> None:
    stream = opened()
    assert [types(stream.stale(value, FRESH, START + 1)) for value in (False, True, True, False)] == [
        [], ["heartbeat"], [], ["heartbeat"],
    ]  # fmt: skip


def stale_stream() -> Stream:
    """A stream whose client holds `snapshot(5)` of a stale account since `START`, and knows it."""
    stream = opened()
    stream.stale(True, FRESH, START)
    return stream


def test_an_update_of_a_stale_account_does_not_make_it_look_current() -> None:
    """A client takes a state for current after any frame that is not `stale`, and an update has no such field."""
    update, heartbeat = stale_stream().newer(snapshot(6, syncs=2), FRESH, START + 1)
    assert (read(update)["type"], read(heartbeat)["stale"]) == ("update", True)
    assert read(heartbeat)["base"] == read(heartbeat)["revision"] == 6


@pytest.mark.parametrize(
    "frame",
    [Resync(), Subscribe(channels=("alerts",)), Unsubscribe(channels=("guards",))],
    ids=lambda frame: type(frame).__name__,
)
def test_no_answer_about_a_stale_account_makes_it_look_current(frame: Any) -> None:
    stream = identified()
    stream.open(snapshot(5), FRESH, START, channels=("status", "guards"), stale=True)
    *_, last = stream.client_frame(frame, snapshot(5), FRESH, START + 1)
    assert read(last)["stale"] is True


def test_channels_that_a_hello_chose_do_not_make_a_stale_account_look_current() -> None:
    stream = identified()
    stream.client_frame(Hello(channels=("status",)), None, FRESH, START)
    outputs = stream.open(snapshot(5), FRESH, START, channels=CHANNELS, stale=True)
    assert read(outputs[-1])["stale"] is True
    assert types(outputs).count("heartbeat") == 1


def test_a_ping_that_would_be_due_before_the_next_heartbeat_goes_with_this_one() -> None:
    stream = opened()
    kinds = [types(tick(stream, seconds)) for seconds in (5.0, 10.0, 15.0, 20.0)]
    assert kinds == [["heartbeat"], ["heartbeat"], ["heartbeat"], ["Ping", "heartbeat"]]


def test_a_client_that_was_heard_is_not_pinged_and_a_silent_one_is_closed_after_two_pings() -> None:
    stream = opened(dataclasses.replace(TIMING, heartbeat_seconds=60.0))
    stream.hear(START + 15)
    assert not tick(stream, 34.9)
    assert types(tick(stream, 35.1)) == ["Ping"]
    assert closing(tick(stream, 55.1)).code == CloseCode.NO_PONG


def test_a_transport_without_pings_neither_asks_nor_closes() -> None:
    stream = opened(Timing(ping_seconds=float("inf")))
    assert [types(tick(stream, seconds)) for seconds in range(10, 100, 10)] == [["heartbeat"]] * 9


# Tokens.


def test_a_client_without_a_hello_is_closed_in_time() -> None:
    stream = anonymous()
    assert not tick(stream, 4.9)
    assert stream.next_due == START + 5
    assert closing(tick(stream, 5.0)).code == CloseCode.NO_HELLO


def test_a_hello_has_its_token_verified_and_only_one_may_come() -> None:
    stream, hello = anonymous(), Hello(token="t", channels=("guards",))
    assert stream.client_frame(hello, None, FRESH, START) == (Verify("t", hello),)
    assert closing(stream.client_frame(hello, None, FRESH, START)).code == CloseCode.MALFORMED


def test_a_hello_without_a_token_is_closed_where_no_header_brought_one() -> None:
    assert closing(anonymous().client_frame(Hello(), None, FRESH, START)).code == CloseCode.UNAUTHENTICATED


@pytest.mark.parametrize("frame", [Auth(token="t"), Subscribe(channels=("guards",)), Resync()])
def test_any_other_first_frame_is_malformed(frame: Auth | Subscribe | Resync) -> None:
    assert closing(anonymous().client_frame(frame, None, FRESH, START)).code == CloseCode.MALFORMED


def test_a_client_is_warned_once_before_its_token_ends() -> None:
    stream = opened(lifetime_seconds=100.0)
    stream.hear(START + 36)
    tick(stream, 36.0)
    assert stream.next_due == START + 40
    assert types(tick(stream, 40.1)) == ["auth_required"]
    assert stream.next_due == START + 40.1 + TIMING.heartbeat_seconds
    assert types(tick(stream, 45.1)) == ["heartbeat"]


def test_a_fresh_token_of_the_same_user_goes_on_and_is_warned_of_again() -> None:
    stream = opened(lifetime_seconds=30.0)
    assert types(tick(stream, 0.1)) == ["auth_required"]
    (accepted,) = stream.renew(identity(lifetime_seconds=50.0), START + 1)
    assert read(accepted) == {"type": "auth_ok", "expires_at": int(WALL + 50)}
    assert stream.next_due <= START + 1
    assert types(tick(stream, 1.0)) == ["auth_required"]


def test_a_token_of_another_user_ends_the_stream() -> None:
    last = closing(opened().renew(identity(user_id=OTHER_USER), START + 1))
    assert (last.code, last.retry_after_ms) == (CloseCode.FORBIDDEN, None)


@pytest.mark.parametrize(("reason", "retry"), [("expired", False), ("unavailable", True)])
def test_a_bad_token_in_band_leaves_the_one_in_force(reason: Any, retry: bool) -> None:
    stream = opened()
    (error,) = stream.refuse_token(refusal(reason), START + 1)
    assert (read(error)["retry"], "retry_after_ms" in read(error)) == (retry, retry)
    assert not stream.has_ended


def test_a_bad_token_in_a_hello_ends_the_stream() -> None:
    last = closing(anonymous().refuse_token(refusal("expired"), START + 1))
    assert (last.code, last.retry_after_ms) == (CloseCode.TOKEN_EXPIRED, None)


@pytest.mark.parametrize(
    ("reason", "code"), [("expired", CloseCode.TOKEN_EXPIRED), ("revoked", CloseCode.FORBIDDEN)]
)
def test_a_token_that_holds_no_longer_ends_a_blocked_stream_too(reason: Any, code: CloseCode) -> None:
    stream = opened()
    stream.block(START + 1)
    assert closing(stream.revoked(reason)).code == code
    assert stream.unblock(snapshot(6, syncs=2), FRESH, START + 2) == []


# Channels.


def test_channels_come_and_go_with_what_has_changed_meanwhile() -> None:
    stream = identified()
    stream.open(snapshot(5), FRESH, START, channels=("guards",))
    newest = snapshot(6, equity=1.0)
    added = stream.client_frame(Subscribe(channels=("status",)), newest, FRESH, START + 1)
    assert [read(each)["patch"].keys() for each in added] == [{"guards"}, {"status"}]
    (dropped,) = stream.client_frame(Unsubscribe(channels=("guards",)), newest, FRESH, START + 1)
    assert read(dropped)["patch"] == {"guards": None}


def test_a_hello_after_a_header_chooses_channels_before_and_after_the_stream_is_open() -> None:
    early = identified()
    assert early.client_frame(Hello(channels=("guards",)), None, FRESH, START) == NOTHING
    outputs = early.open(snapshot(5), FRESH, START, channels=CHANNELS)
    assert types(outputs) == ["welcome", "snapshot", "update"]
    assert read(outputs[2])["patch"] == {"status": None, "positions": None, "alerts": None}
    late = opened()
    (update,) = late.client_frame(Hello(channels=("guards",)), snapshot(5), FRESH, START)
    assert read(update)["patch"] == {"status": None, "positions": None, "alerts": None}


def test_a_resync_gets_the_newest_state() -> None:
    outputs = opened().client_frame(Resync(), snapshot(6, syncs=2), FRESH, START)
    assert types(outputs) == ["update", "snapshot"]
    assert read(outputs[1])["revision"] == 6


# Alerts.


def say(stream: Stream, frame: ClientFrame) -> Outputs:
    return stream.client_frame(frame, snapshot(5), FRESH, START + 1)


@pytest.mark.parametrize("frame", [ACK, SNOOZE, ATTEND, LEAVE])
def test_a_frame_about_alerts_is_performed_for_the_user_of_the_token(frame: AlertFrame) -> None:
    stream = opened(scopes=frozenset({ACK_SCOPE}))
    assert list(say(stream, frame)) == [Perform(USER, frame)]


@pytest.mark.parametrize(
    ("frame", "alerts"), [(ACK, ["a", "b"]), (SNOOZE, ["a"]), (ATTEND, [None]), (LEAVE, [None])]
)
def test_without_the_scope_each_alert_is_refused_and_the_stream_goes_on(
    frame: AlertFrame, alerts: list[str | None]
) -> None:
    stream = opened(scopes=frozenset({MANAGE_SCOPE}))
    answers = [read(each) for each in say(stream, frame)]
    assert [(each["code"], each["retry"], each.get("alert")) for each in answers] == [
        ("not_allowed", False, alert) for alert in alerts
    ]
    assert all(ACK_SCOPE in each["message"] for each in answers)
    assert types(say(stream, Resync())) == ["snapshot"]


def test_a_new_token_brings_the_scope_and_takes_it_away() -> None:
    stream = opened()
    stream.renew(identity(scopes=frozenset({ACK_SCOPE})), START)
    assert types(say(stream, ACK)) == ["Perform"]
    stream.renew(identity(), START)
    assert types(say(stream, ACK)) == ["error", "error"]


@pytest.mark.parametrize("frame", [ACK, SNOOZE, ATTEND, LEAVE])
def test_a_frame_about_alerts_before_the_welcome_is_malformed(frame: AlertFrame) -> None:
    assert closing(say(anonymous(), frame)).code == CloseCode.MALFORMED
    waiting = Stream(START, TIMING, 255, identity(scopes=frozenset({ACK_SCOPE})))
    assert closing(say(waiting, frame)).code == CloseCode.MALFORMED


def test_the_replies_to_a_frame_go_out_in_order_and_put_off_the_heartbeat() -> None:
    stream = opened()
    unknown = Error(code="unknown_alert", message="no such alert", retry=False, alert="b")
    outputs = stream.answer([AckOk(alerts={"a": 1}, revision=7), unknown], START + 3)
    assert [read(each) for each in outputs] == [
        {"type": "ack_ok", "alerts": {"a": 1}, "revision": 7},
        {"type": "error", "code": "unknown_alert", "message": "no such alert", "retry": False, "alert": "b"},
    ]
    assert tick(stream, 5) == NOTHING
    assert types(tick(stream, 8)) == ["heartbeat"]


def test_a_reply_that_comes_after_the_end_is_dropped() -> None:
    stream = opened()
    stream.end()
    assert stream.answer([AckOk(alerts={"a": 1}, revision=7)], START) == NOTHING


# The end.


def test_of_a_stream_that_has_ended_nothing_is_due() -> None:
    stream = opened()
    stream.draining(150)
    stream.look_by(START)
    assert stream.next_due == float("inf")


def test_a_draining_node_says_when_to_come_back_and_says_it_once() -> None:
    stream = opened()
    assert stream.draining(150) == (Close(CloseCode.DRAINING, "the server is restarting", 150),)
    assert stream.draining(150) == NOTHING


@pytest.mark.parametrize(
    "act",
    [
        lambda stream, theirs: stream.newer(theirs, FRESH, START),
        lambda stream, theirs: stream.unblock(theirs, FRESH, START),
        lambda stream, theirs: stream.client_frame(Resync(), theirs, FRESH, START),
        lambda stream, theirs: stream.client_frame(Subscribe(channels=CHANNELS), theirs, FRESH, START),
    ],
)
def test_anothers_snapshot_ends_an_open_stream(act: Callable[[Stream, Snapshot], Outputs]) -> None:
    last = closing(act(opened(), snapshot(6, user_id=OTHER_USER)))
    assert (last.code, last.reason) == (CloseCode.OVERLOADED, "please reconnect")


def test_anothers_snapshot_and_anothers_step_open_no_stream() -> None:
    theirs, since = snapshot(6, user_id=OTHER_USER), Resume(epoch=9, revision=5)
    edge = Edge(OTHER_USER, 5, 6, b"{}")
    assert closing(identified().open(theirs, FRESH, START, channels=CHANNELS)).code == CloseCode.OVERLOADED
    for newest, path in ((theirs, None), (snapshot(6), [edge])):
        outputs = identified().open_for_poll(
            newest, FRESH, channels=CHANNELS, since=since, path=path, stale=False
        )
        assert closing(outputs).code == CloseCode.OVERLOADED
    outputs = identified().open(snapshot(6), FRESH, START, channels=CHANNELS, resume=since, path=[edge])
    assert closing(outputs).code == CloseCode.OVERLOADED


def test_after_the_end_every_input_gives_nothing() -> None:
    stream = opened()
    stream.too_many()
    newest = snapshot(6, syncs=2)
    assert [
        *stream.newer(newest, FRESH, START), *stream.stale(True, FRESH, START), *tick(stream, 100.0),
        *stream.client_frame(Resync(), newest, FRESH, START), *stream.unblock(newest, FRESH, START),
        *stream.renew(identity(), START), *stream.refuse_token(refusal("expired"), START), *stream.too_slow(),
        *stream.open(newest, FRESH, START, channels=CHANNELS), *stream.revoked("revoked"),
    ] == []  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StreamClosed(CloseCode.RATE_LIMITED, "too many frames"), CloseCode.RATE_LIMITED),
        (WrongOwner("frame"), CloseCode.OVERLOADED),
        (UnavailableError("later"), CloseCode.OVERLOADED),
        (refusal("unavailable"), CloseCode.OVERLOADED),
        (RuntimeError("a secret"), CloseCode.OVERLOADED),
    ],
)
def test_an_error_that_passes_says_when_to_come_back(error: Exception, code: CloseCode) -> None:
    last = close_after(error)
    least_ms, most_ms = RETRY_AFTER_MS[code]
    assert (last.code, "secret" in last.reason) == (code, False)
    assert last.retry_after_ms is not None
    assert least_ms <= last.retry_after_ms <= most_ms


def test_a_claim_too_many_comes_back_after_what_its_limit_says() -> None:
    last = close_after(TooManyClaims(7))
    assert last.code == CloseCode.RATE_LIMITED
    assert last.retry_after_ms is not None
    assert 7_000 <= last.retry_after_ms <= 14_000


def test_what_the_client_did_wrong_gets_no_time_to_come_back() -> None:
    assert close_after(StreamClosed(CloseCode.MALFORMED, "no")) == Close(CloseCode.MALFORMED, "no")
