"""Deltas: the state after a batch, computed from the state before it, without a read.

Most rows of a platform move prices, times and equity and nothing else. The applier has these values at hand and
publishes them together with the revision that they follow (`guardwire.apply_plain` in
`migrations/code/81_batch.sql`). A node that holds that revision computes the next state from them. Every value
is absolute, so no error adds up.

A delta is text: ``1 user base revision total_syncs last_sync_at last_sync_duration_ms last_position_at balance
equity equity_at peak_equity drawdown_pct``, then for each position ``|ticket matched current_price profit
pnl_pct updated_at``. The first field is the version of the format. Times are microseconds since 1970; null is
empty. A notification is ``mac#delta;delta…``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from guardwire.patch import State
from queries.positions import percent
from queries.timestamps import iso

FORMAT: Final = "1"
#: Hexadecimal digits of the message authentication code in front of a notification.
MAC_CHARACTERS: Final = 32
#: Most times of a batch are equal, so few are remembered.
_MOMENTS_REMEMBERED: Final = 1024
_USER_CHARACTERS: Final = 36
_USER_AT: Final = len(FORMAT) + 1
_FIRST_MOMENT: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Delta(NamedTuple):
    """One account's step from revision ``base`` to ``revision``; ``user`` and the values are text."""

    user: str
    base: int
    revision: int
    account: list[str]
    positions: list[str]


def user_of(delta: str) -> str:
    """The account of a delta, as text."""
    return delta[_USER_AT : _USER_AT + _USER_CHARACTERS]


def mac_of(secret: bytes, payload: str) -> str:
    """The message authentication code of a notification's deltas, as `guardwire.delta_mac` computes it."""
    inner = hashlib.sha256(secret + payload.encode()).digest()
    return hashlib.sha256(secret + inner).hexdigest()[:MAC_CHARACTERS]


def authenticated(secret: bytes, notification: str) -> str | None:
    """The deltas of a notification that was made with ``secret``; None for a forged one."""
    mac, separator, payload = notification.partition("#")
    if not separator or not hmac.compare_digest(mac.encode(), mac_of(secret, payload).encode()):
        return None
    return payload


def parse_deltas(deltas: Iterable[str], is_wanted: Callable[[str], bool] = lambda _: True) -> Iterator[Delta]:
    """The deltas of wanted users; raises ValueError for text in another format.

    Nodes receive the deltas of every account, so the others are dropped before they are parsed.
    """
    for item in deltas:
        if is_wanted(user_of(item)):
            head, *positions = item.split("|")
            version, user, base, revision, *account = head.split(" ")
            if version != FORMAT:
                raise ValueError(f"a delta in format {version!r}")
            yield Delta(user, int(base), int(revision), account, positions)


def state_after(before: State, delta: Delta) -> tuple[State, State] | None:
    """The state at ``delta.revision`` and the merge patch that leads there from ``before``.

    ``before`` is the state at ``delta.base`` and stays unchanged. None when the delta does not fit that state:
    then the account has to be read. Raises ValueError as `parse_deltas` does.
    """
    (
        total_syncs, last_sync_at, duration_ms, last_position_at, balance, equity, equity_at, peak_equity,
        drawdown_pct,
    ) = delta.account  # fmt: skip
    held = before["positions"]
    matched, unmatched = _by_match(delta.positions)
    moved = _moved(held["open"], matched)
    moved_unmatched = _moved(held.get("unmatched", {}), unmatched)
    if moved is None or moved_unmatched is None:
        return None
    status = _changes(
        before["status"],
        total_syncs=int(total_syncs),
        last_sync_at=_moment_or_none(last_sync_at),
        last_sync_duration_ms=float(duration_ms) if duration_ms else None,
    )
    # Equity in doubt is no plain change, so a drawdown that is unknown stays as it is.
    drawdown = {} if not equity or "doubt" in before["guards"]["drawdown"] else _changes(
        before["guards"]["drawdown"],
        current_equity=float(equity),
        last_checked_at=_moment_or_none(equity_at),
        peak_equity=float(peak_equity),
        current_drawdown_pct=float(drawdown_pct),
    )  # fmt: skip
    positions = _changes(held, last_updated_at=_moment_or_none(last_position_at))
    positions |= _sums(before, moved, balance)
    if moved:
        positions["open"] = moved
    if moved_unmatched:
        positions["unmatched"] = moved_unmatched
    patch: State = {}
    if status:
        patch["status"] = status
    if positions:
        patch["positions"] = positions
    if drawdown:
        patch["guards"] = {"drawdown": drawdown}
    return _patched(before, patch), patch


def _patched(before: State, patch: State) -> State:
    """``before`` with a merge patch applied; every part that is unchanged is shared."""
    after = dict(before)
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = _patched(before[name], value) if isinstance(value, dict) else value
    return after


def _changes(before: State, **values: Any) -> State:
    """The values that differ from ``before``; None stands for an absent field."""
    return {name: value for name, value in values.items() if before.get(name) != value}


def _by_match(items: list[str]) -> tuple[list[list[str]], list[list[str]]]:
    """The fields of the positions in a delta: of those that are matched, and of the others."""
    fields = [item.split(" ") for item in items]
    return [each for each in fields if each[1] == "1"], [each for each in fields if each[1] != "1"]


def _moved(book: State, items: list[list[str]]) -> State | None:
    """The changed fields of the positions in ``book``, by ticket; None when another book is meant."""
    moved: State = {}
    for ticket, _, current_price, profit, pct, updated_at in items:
        held = book.get(ticket)
        if held is None:
            return None
        fields = _changes(
            held,
            current_price=float(current_price),
            unrealized_pnl=float(profit),
            unrealized_pnl_pct=float(pct),
            last_updated_at=moment(updated_at),
        )
        if fields:
            moved[ticket] = fields
    return moved


def _sums(before: State, moved: State, balance: str) -> State:
    """The sums that differ. A plain change never alters which currencies are added up."""
    positions = before["positions"]
    total = positions.get("total_unrealized_pnl")
    if total is None:
        return {}
    book = positions["open"]
    # Whole cents add up exactly.
    total_cents = _cents(total) + sum(
        _cents(fields["unrealized_pnl"]) - _cents(book[ticket]["unrealized_pnl"])
        for ticket, fields in moved.items()
        if "unrealized_pnl" in fields
    )
    pct = None
    if balance and float(balance) > 0:
        pct = percent(total_cents / 100, float(balance))
    return _changes(positions, total_unrealized_pnl=total_cents / 100, total_unrealized_pnl_pct=pct)


def _cents(amount: float) -> int:
    return round(amount * 100)


def _moment_or_none(unix_us: str) -> str | None:
    return moment(unix_us) if unix_us else None


@lru_cache(maxsize=_MOMENTS_REMEMBERED)
def moment(unix_us: str) -> str:
    """ISO 8601 of microseconds since 1970."""
    seconds, microseconds = divmod(int(unix_us), 1_000_000)
    return f"{_second(seconds)}{microseconds:06d}Z"


@lru_cache(maxsize=_MOMENTS_REMEMBERED)
def _second(unix_seconds: int) -> str:
    return iso(_FIRST_MOMENT + timedelta(seconds=unix_seconds))[: -len("000000Z")]
