"""The state that a client mirrors: one struct for each kind of record (PROTOCOL.md, "The state").

A field that is None is absent on the wire. Times are ISO 8601 UTC text with six decimals and ``Z``. Money has two
decimals. Collections are objects keyed by identity, so that a JSON Merge Patch is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

#: It is raised when the meaning of the state changes, so that two releases side by side never serve each other's state.
STATE_VERSION: Final = 3

ChannelName = Literal["status", "positions", "guards", "alerts"]
CHANNELS: Final[tuple[ChannelName, ...]] = ("status", "positions", "guards", "alerts")
#: The channels of a client that names none: those of the first release.
DEFAULT_CHANNELS: Final[tuple[ChannelName, ...]] = ("status", "positions", "guards")


def order_channels(channels: Iterable[str]) -> tuple[ChannelName, ...]:
    """``channels`` in the order of `CHANNELS`, each once; raises ValueError for none and for an unknown one."""
    wanted = set(channels)
    if not wanted or not wanted <= set(CHANNELS):
        raise ValueError(f"channels must be a choice of {', '.join(CHANNELS)}")
    return tuple(channel for channel in CHANNELS if channel in wanted)


EventType = Literal[
    "position_synced",
    "position_matched",
    "divergence_detected",
    "position_closed",
    "drawdown_alert",
    "market_condition_alert",
]
ConditionType = Literal["price_gap", "bid_ask_spread", "low_liquidity", "other"]


class _Part(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Absent fields are None; extra fields of a newer server are ignored."""


class Event(_Part, frozen=True):
    """One event of the account; its id is the key of `Status.recent_events`."""

    event_type: EventType
    created_at: str
    description: str
    symbol: str | None = None
    mt5_ticket: str | None = None
    matched: int | None = None
    pnl_gbp: float | None = None
    divergence_reason: str | None = None
    #: Names a finding of the server itself; None for an event that the platform reported. An open list.
    notice: str | None = None
    #: The level of a drawdown alert, ``warning`` or ``critical``.
    alert_type: str | None = None


class Status(_Part, frozen=True):
    """Channel ``status``: whether the account is being reconciled, and whether it agrees with the broker."""

    status: Literal["healthy", "idle", "warning", "unknown"]
    source: Literal["live", "silent"]
    total_syncs: int
    open_positions_count: int
    matched_positions: int
    divergences_detected: int
    recent_events: dict[str, Event]
    last_sync_at: str | None = None
    last_sync_duration_ms: float | None = None
    error_message: str | None = None
    clock_offset_seconds: int | None = None
    counts_at_arrival: bool = False
    recorded: bool = True


class Position(_Part, frozen=True):
    """One open position; its ticket is the key of `Positions.open` or `Positions.unmatched`.

    ``matched`` is None where broker and bot agree on it, 0 where that is not decided, 2 where they diverge.
    """

    position_id: str
    entry_time: str
    last_updated_at: str
    symbol: str | None = None
    direction: Literal["buy", "sell"] | None = None
    volume: float | None = None
    entry_price: float | None = None
    current_price: float | None = None
    unrealized_pnl: float | None = None
    unrealized_pnl_pct: float | None = None
    pnl_currency: str | None = None
    take_profit: float | None = None
    stop_loss: float | None = None
    contract_size_assumed: bool = False
    instrument: str | None = None
    unconfirmed_since: str | None = None
    matched: Literal[0, 2] | None = None
    divergence_reason: str | None = None


class Positions(_Part, frozen=True):
    """Channel ``positions``: the open positions and what they are worth; ``unmatched`` ones are in no sum."""

    total_positions: int
    open: dict[str, Position]
    unmatched: dict[str, Position] | None = None
    total_unrealized_pnl: float | None = None
    total_unrealized_pnl_pct: float | None = None
    currency: str | None = None
    last_updated_at: str | None = None


class Drawdown(_Part, frozen=True):
    """How far equity is below its peak, compared with the limits of the account; percentages are 0-100."""

    alert_type: Literal["normal", "warning", "critical", "unknown"]
    should_close_all: bool
    alert_threshold_pct: float
    warning_pct: float
    critical_pct: float
    minimum_equity: float
    current_equity: float | None = None
    peak_equity: float | None = None
    current_drawdown_pct: float | None = None
    currency: str | None = None
    liquidation_at: str | None = None
    last_checked_at: str | None = None
    #: Why the equity cannot be trusted: ``implausible``, ``older`` or ``overdue``; a newer server may say another word.
    doubt: str | None = None
    doubted_equity: float | None = None


class MarketAlert(_Part, frozen=True):
    """A market condition that the platform reported; it disappears after its window. ``normal`` ones stand apart."""

    symbol: str
    condition_type: ConditionType
    alert_type: Literal["normal", "warning", "critical"]
    should_close_positions: bool
    detected_at: str
    price_gap_pct: float | None = None
    bid_ask_spread_pct: float | None = None
    open_price: float | None = None
    close_price: float | None = None
    bid: float | None = None
    ask: float | None = None


class Breach(_Part, frozen=True):
    """A guard that became critical; it stays here after it cleared, so that a client that was away sees it."""

    kind: Literal["drawdown", "market"]
    raised_at: str
    cleared_at: str | None = None
    observed_pct: float | None = None
    symbol: str | None = None
    condition_type: ConditionType | None = None


class Guards(_Part, frozen=True):
    """Channel ``guards``: the conditions under which a bot must act."""

    system_status: Literal["healthy", "warning", "unknown"]
    any_positions_should_close: bool
    drawdown: Drawdown
    alerts: dict[str, MarketAlert]
    breaches: dict[str, Breach]
    normal_alerts: dict[str, MarketAlert] | None = None


class Alert(_Part, frozen=True):
    """Something that somebody has to act on; it stays until it is both resolved and acknowledged.

    ``kind`` is an open list: a client treats a kind that it does not know as one to act on.
    """

    generation: int
    kind: str
    severity: Literal["warning", "critical"]
    subject: str
    first_raised_at: str
    raised_at: str
    occurrences: int
    level: int
    symbol: str | None = None
    condition_type: ConditionType | None = None
    deadline_at: str | None = None
    observed: float | None = None
    limit: float | None = None
    acknowledged_by: str | None = None
    acknowledged_at: str | None = None
    action: Literal["received", "acting", "done"] | None = None
    #: When the book has to show that somebody acted.
    hold_until: str | None = None
    snoozed_until: str | None = None
    resolved_at: str | None = None
    voided_at: str | None = None


class Attendant(_Part, frozen=True):
    """A bot that attends the account; its name is the key of `Attendance.attendants`."""

    since: str


class Attendance(_Part, frozen=True):
    """Whether somebody has to attend the account, and who does."""

    armed: bool
    status: Literal["attended", "unattended", "disarmed"]
    attendants: dict[str, Attendant]
    since: str | None = None
    #: While unattended: when the alarm is raised.
    grace_until: str | None = None


class Alerts(_Part, frozen=True):
    """Channel ``alerts``: what has to be acted on, and who attends. No delta changes it."""

    unacknowledged: int
    open: dict[str, Alert]
    attendance: Attendance


class AccountState(_Part, frozen=True):
    """Everything that a client mirrors; a channel that is not subscribed to is None."""

    status: Status | None = None
    positions: Positions | None = None
    guards: Guards | None = None
    alerts: Alerts | None = None
