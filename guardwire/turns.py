"""Which alerts ask for somebody now, as one reader after another takes them; no I/O happens here.

`static/client/turns.js` passes the same vectors (`tests/vectors/alerts.json`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from guardwire.state import Alert, Alerts


class _Turn(NamedTuple):
    generation: int
    number: int
    is_acknowledged: bool
    #: The state shows the acknowledgement from this revision on.
    acknowledged_at_revision: int


class Turns:
    """Numbers the occasions on which alerts ask for somebody: a new generation, and an acknowledgement that is over.

    It sees every state, so a reader that was busy learns of an acknowledgement that came and went meanwhile.
    """

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._count = 0
        self._epoch = 0

    def number(self, alert_id: str) -> int | None:
        """The number of the alert's present turn; it only grows. None when it is not in the state."""
        turn = self._turns.get(alert_id)
        return None if turn is None else turn.number

    def receive(self, alerts: Alerts, *, epoch: int, revision: int) -> None:
        """Take the state at ``revision``."""
        is_other_history = epoch != self._epoch
        self._epoch = epoch
        turns = {}
        for alert_id, alert in alerts.open.items():
            known = self._turns.get(alert_id)
            is_acknowledged = alert.acknowledged_by is not None
            awaited = 0 if known is None or is_other_history else known.acknowledged_at_revision
            if known is None or known.generation != alert.generation:
                turns[alert_id] = _Turn(alert.generation, self._next(), is_acknowledged, 0)
            elif known.is_acknowledged and not is_acknowledged and revision >= awaited:
                turns[alert_id] = _Turn(alert.generation, self._next(), False, 0)
            else:
                is_acknowledged = is_acknowledged or known.is_acknowledged
                turns[alert_id] = known._replace(
                    is_acknowledged=is_acknowledged, acknowledged_at_revision=awaited
                )
        self._turns = turns

    def note_acknowledged(self, alert_id: str, generation: int, revision: int) -> None:
        """Note that an acknowledgement is committed, which the state shows from ``revision`` on."""
        turn = self._turns.get(alert_id)
        if turn is not None and turn.generation == generation:
            self._turns[alert_id] = turn._replace(is_acknowledged=True, acknowledged_at_revision=revision)

    def _next(self) -> int:
        self._count += 1
        return self._count


class AlertReader:
    """The alerts that one reader has taken; no I/O happens here. ``name`` is the reader's own, None for none."""

    def __init__(self, turns: Turns, name: Callable[[], str | None]) -> None:
        self._turns = turns
        self._name = name
        self._taken: dict[str, int | None] = {}

    def take(self, alerts: Alerts) -> tuple[str, Alert] | None:
        """The most urgent alert that this reader has not taken in its present turn; None for none.

        An alert that somebody else has acknowledged is left to them. One that was acknowledged under this reader's own
        name before it started is taken up again.
        """
        self._taken = {alert_id: turn for alert_id, turn in self._taken.items() if alert_id in alerts.open}
        mine = (None, self._name())
        left = [
            (alert_id, alert)
            for alert_id, alert in alerts.open.items()
            if alert.acknowledged_by in mine and self._taken.get(alert_id) != self._turns.number(alert_id)
        ]
        if not left:
            return None
        alert_id, alert = min(left, key=_urgency)
        self._taken[alert_id] = self._turns.number(alert_id)
        return alert_id, alert


def _urgency(item: tuple[str, Alert]) -> tuple[bool, bool, str, str]:
    alert = item[1]
    return (
        alert.resolved_at is not None,
        alert.severity != "critical",
        alert.deadline_at or "~",
        alert.raised_at,
    )
