"""The text of a close frame: it fits, and its hint is whole."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close

from guardwire.endings import from_close
from realtime.delivery.websocket.connection import close_text


@given(st.text(max_size=300), st.none() | st.integers(0, 300_000))
def test_a_close_text_fits_a_control_frame_and_its_hint_is_whole(reason: str, hint: int | None) -> None:
    reason = reason.encode("utf-8", "ignore").decode()
    text = close_text(reason, hint)
    assert len(Close(1012, text).serialize()) <= 125
    if hint is None:
        assert reason.startswith(text)
    else:
        said = json.loads(text)
        assert said["retry_after_ms"] == hint
        assert reason.startswith(said["reason"])
        assert from_close(1012, text).ending.retry_after_seconds == hint / 1000


def test_a_reason_that_fits_is_sent_whole() -> None:
    assert close_text("the token expired", None) == "the token expired"
    assert close_text("draining", 1500) == '{"reason": "draining", "retry_after_ms": 1500}'
