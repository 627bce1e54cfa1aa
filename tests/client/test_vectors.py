"""The vectors that every client agrees on, in whatever language it is written (`tests/vectors/`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from guardwire.clock import Instant
from guardwire.ending import closed
from guardwire.freshness import Freshness
from guardwire.link import decode
from guardwire.messages import Heartbeat, Snapshot, Update
from guardwire.mirror import Mirror

VECTORS = Path(__file__).parent.parent / "vectors"


def read(name: str, key: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())[key]
    assert cases
    return cases


@pytest.mark.parametrize("sequence", read("mirror.json", "sequences"), ids=lambda sequence: sequence["name"])
def test_the_mirror_reacts_to_each_frame_as_every_client_does(sequence: dict[str, Any]) -> None:
    mirror = Mirror()
    for step in sequence["steps"]:
        frame = decode(json.dumps(step["frame"]))
        assert (frame is None) == step.get("unknown_type", False)
        if frame is not None:
            assert mirror.receive(frame).value == step["reaction"], step["frame"]
        assert mirror.state == step["state"]
        position = mirror.position
        held = None if position is None else {"epoch": position.epoch, "revision": position.revision}
        assert held == step["position"]


@pytest.mark.parametrize(
    "timeline", read("freshness.json", "timelines"), ids=lambda timeline: timeline["name"]
)
def test_the_state_is_worth_what_every_client_says(timeline: dict[str, Any]) -> None:
    freshness = Freshness()
    for step in timeline["steps"]:
        now = Instant(step["at_ms"] / 1000, step["at_ms"] / 1000)
        if "confirm" in step:
            freshness.confirm(msgspec.convert(step["confirm"], Snapshot | Update | Heartbeat), now)
        if step.get("doubt"):
            freshness.doubt()
        assert freshness.status(now) == step["level"]
        age_seconds = freshness.age_seconds(now)
        assert (age_seconds is None) == (step["age_ms"] is None)
        if age_seconds is not None:
            assert round(age_seconds * 1000) == step["age_ms"]


@pytest.mark.parametrize(
    "close", read("close_codes.json", "closes"), ids=lambda close: f"{close['code']} {close['reason']}"
)
def test_a_close_means_what_every_client_takes_it_for(close: dict[str, Any]) -> None:
    ending = closed(close["code"], close["reason"]).ending
    assert ending.verdict == close["verdict"]
    assert ending.retry_after_seconds * 1000 == close["retry_after_ms"]
