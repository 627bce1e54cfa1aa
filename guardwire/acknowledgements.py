"""Acknowledgements and snoozes that the server has not confirmed yet, and when to send each one.

No I/O happens here. An acknowledgement is state and no message in a queue: there is at most one for each alert, and it
is sent again over each new link until the server's answer or the state itself confirms it.
"""

from __future__ import annotations

from typing import Final

from guardwire.clock import Instant, elapsed_seconds
from guardwire.messages import Ack, AckOk, Action, Error, ServerFrame, Snooze, SnoozeOk
from guardwire.state import Alert, Alerts

#: A frame without an answer is sent again after this; the server answers a repeated one in the same way.
ANSWER_SECONDS: Final = 5.0
#: A frame that the server refused for now is sent again no sooner than this.
_LEAST_PAUSE_SECONDS: Final = 1.0
_RANKS: Final[dict[Action | None, int]] = {None: -1, "received": 0, "acting": 1, "done": 2}

_Key = tuple[str, str]


class Request:
    """One acknowledgement or snooze of one alert."""

    def __init__(self, frame: Ack | Snooze) -> None:
        self.frame = frame
        #: The server's last word where it refused for good; None otherwise.
        self.refusal: Error | None = None
        #: Whether it needs no more sending: it was confirmed, refused, or replaced by a later one.
        self.is_over = False
        #: Whether it was written to a link since it was asked for.
        self.was_sent = False
        self._sent_at: Instant | None = None
        self._pause_seconds = ANSWER_SECONDS
        #: Frames about this alert that the present link has not answered: this one, and perhaps one that it replaced.
        self._unanswered = 0

    @property
    def alert_id(self) -> str:
        """The alert that it is about."""
        return next(iter(self.frame.alerts)) if isinstance(self.frame, Ack) else self.frame.alert

    @property
    def generation(self) -> int:
        """The generation of the alert that it is about."""
        return self.frame.alerts[self.alert_id] if isinstance(self.frame, Ack) else self.frame.generation

    def is_due(self, now: Instant) -> bool:
        """Whether to send it ``now``."""
        return self._sent_at is None or elapsed_seconds(self._sent_at, now) >= self._pause_seconds

    def note_sent(self, now: Instant) -> None:
        """Note that it was sent ``now``."""
        self.was_sent = True
        self._sent_at, self._pause_seconds = now, ANSWER_SECONDS
        self._unanswered += 1

    def note_link_ended(self) -> None:
        """Note that no answer comes any more."""
        self._sent_at = None
        self._unanswered = 0

    def replace(self, earlier: Request) -> None:
        """Take the place of ``earlier``, whose answer may still come."""
        self._unanswered = earlier._unanswered
        earlier.is_over = True

    def confirm(self) -> None:
        """Note one answer that says it is done."""
        self._unanswered -= 1
        # The answer may be that of the request before this one, because an answer names no action.
        self.is_over = self._sent_at is not None and self._unanswered <= 0

    def refuse(self, error: Error, now: Instant) -> None:
        """Note one answer that refuses it, for good or for now."""
        self._unanswered -= 1
        if self._unanswered > 0:
            return
        if not error.retry:
            self.refusal, self.is_over = error, True
            return
        self._sent_at = now
        self._pause_seconds = max((error.retry_after_ms or 0) / 1000, _LEAST_PAUSE_SECONDS)


class Acknowledgements:
    """The requests of one account that are not over."""

    def __init__(self) -> None:
        self._pending: dict[_Key, Request] = {}

    @property
    def are_pending(self) -> bool:
        """Whether one is not over."""
        return bool(self._pending)

    def put(self, frame: Ack | Snooze) -> Request:
        """A request for ``frame``, which is of one alert; it replaces an earlier one of the same alert and kind."""
        request = Request(frame)
        key = _key_of(request)
        if (earlier := self._pending.get(key)) is not None:
            request.replace(earlier)
        self._pending[key] = request
        return request

    def due(self, now: Instant) -> list[Request]:
        """Those to send ``now``, in the order of their asking."""
        return [request for request in self._pending.values() if request.is_due(now)]

    def note_link_ended(self) -> None:
        """Note that the link is gone: all of them are to be sent over the next one."""
        for request in self._pending.values():
            request.note_link_ended()

    def receive(self, frame: ServerFrame, now: Instant) -> list[Request]:
        """Take one frame of the present link; those that it refused for good."""
        answered: list[_Key] = []
        match frame:
            case AckOk():
                answered = [("ack", alert) for alert in frame.alerts]
            case SnoozeOk():
                answered = [("snooze", frame.alert)]
            case Error() if frame.alert is not None:
                answered = [("ack", frame.alert), ("snooze", frame.alert)]
            case _:
                pass
        found = [request for key in answered if (request := self._pending.get(key)) is not None]
        for request in found:
            if isinstance(frame, Error):
                request.refuse(frame, now)
            else:
                request.confirm()
        self.forget_over()
        return [request for request in found if request.refusal is not None]

    def settle(self, alerts: Alerts) -> None:
        """End those that the state confirms, or that are about a generation that is over."""
        for request in self._pending.values():
            request.is_over = _is_settled(request, alerts.open.get(request.alert_id))
        self.forget_over()

    def forget_over(self) -> None:
        """Forget those that are over."""
        self._pending = {key: request for key, request in self._pending.items() if not request.is_over}


def _key_of(request: Request) -> _Key:
    return "ack" if isinstance(request.frame, Ack) else "snooze", request.alert_id


def _is_settled(request: Request, alert: Alert | None) -> bool:
    if alert is None or alert.generation > request.generation:
        return True
    frame = request.frame
    # A snooze changes nothing where one is on already, so only its answer says that it is done.
    if isinstance(frame, Snooze) or alert.generation < request.generation:
        return False
    return alert.acknowledged_by == frame.by and _RANKS[alert.action] >= _RANKS[frame.action]
