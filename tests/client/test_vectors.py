"""The vectors that every client passes, in any language (`tests/vectors/`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from guardwire.clock import Instant
from guardwire.endings import from_close
from guardwire.link import decode_frame
from guardwire.messages import Heartbeat, SnapshotFrame, Update, Welcome
from guardwire.mirror import Mirror, StateAge
from guardwire.state import Alerts
from guardwire.turns import AlertReader, Turns

VECTORS = Path(__file__).parent.parent / "vectors"


def read(name: str, key: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())[key]
    assert cases
    return cases


@pytest.mark.parametrize("sequence", read("mirror.json", "sequences"), ids=lambda sequence: sequence["name"])
def test_the_mirror_reacts_to_each_frame_as_every_client_does(sequence: dict[str, Any]) -> None:
    mirror = Mirror()
    for step in sequence["steps"]:
        frame = decode_frame(json.dumps(step["frame"]))
        assert (frame is None) == step.get("unknown_type", False)
        if frame is not None:
            assert mirror.receive(frame).value == step["reaction"], step["frame"]
        assert mirror.state == step["state"]
        point = mirror.resume_point
        held = None if point is None else {"epoch": point.epoch, "revision": point.revision}
        assert held == step["position"]


@pytest.mark.parametrize(
    "timeline", read("freshness.json", "timelines"), ids=lambda timeline: timeline["name"]
)
def test_every_client_gives_the_state_the_same_status(timeline: dict[str, Any]) -> None:
    age = StateAge()
    for step in timeline["steps"]:
        now = Instant(step["at_ms"] / 1000, step["at_ms"] / 1000)
        if "confirm" in step:
            age.confirm(msgspec.convert(step["confirm"], SnapshotFrame | Update | Heartbeat), now)
        if step.get("doubt"):
            age.doubt()
        if "welcome" in step:
            age.note_welcome(msgspec.convert(step["welcome"], Welcome))
        if step.get("link_ended"):
            age.note_link_ended()
        assert age.level(now) == step["level"]
        age_seconds = age.age_seconds(now)
        assert (age_seconds is None) == (step["age_ms"] is None)
        if age_seconds is not None:
            assert round(age_seconds * 1000) == step["age_ms"]


@pytest.mark.parametrize(
    "close", read("close_codes.json", "closes"), ids=lambda close: f"{close['code']} {close['reason']}"
)
def test_every_client_gives_a_close_the_same_meaning(close: dict[str, Any]) -> None:
    ending = from_close(close["code"], close["reason"]).ending
    assert ending.verdict == close["verdict"]
    assert ending.retry_after_seconds * 1000 == close["retry_after_ms"]


USUAL_ALERT = {
    "kind": "drawdown",
    "severity": "critical",
    "subject": "",
    "first_raised_at": "2026-01-05T09:00:01.000000Z",
    "raised_at": "2026-01-05T09:00:01.000000Z",
    "occurrences": 1,
    "level": 0,
}


@pytest.mark.parametrize("vector", read("alerts.json", "readers"), ids=lambda vector: vector["name"])
def test_every_client_takes_alerts_on_the_same_occasions(vector: dict[str, Any]) -> None:
    turns, seen = Turns(), None
    reader = AlertReader(turns, lambda: vector["reader"])
    for step in vector["steps"]:
        if "open" in step:
            alerts = {alert_id: USUAL_ALERT | fields for alert_id, fields in step["open"].items()}
            attendance = {"armed": False, "status": "disarmed", "attendants": {}}
            document = {"unacknowledged": 0, "open": alerts, "attendance": attendance}
            seen = msgspec.convert(document, Alerts)
            turns.receive(seen, epoch=step.get("epoch", 8), revision=step["revision"])
        for alert_id, generation in step.get("acknowledged", {}).items():
            turns.note_acknowledged(alert_id, generation, step["at_revision"])
        assert seen is not None
        if "taken" in step:
            taken = []
            while (found := reader.take(seen)) is not None:
                taken.append(found[0])
            assert taken == step["taken"]
