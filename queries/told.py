"""What a commit told of itself: the state after it, made from the state before, without reading anything.

Most commits are plain syncs: they move prices and times and nothing else. The capture has all of that at
hand and tells it (`migrations/sql/tell.sql`) together with the revision that it follows on; who holds that
revision has the next one. Everything told is absolute, so nothing adds up over many steps.

Each item ends in ``#`` and a code (`told_code`) that only the capture and the nodes can make. Before that an
item is ``user base revision total_syncs last_sync_at last_sync_duration_ms last_position_at balance``,
then for each position ``|ticket matched current_price profit pct updated_at``; items are divided by ``;``.
Times are microseconds since 1970, and what is null is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final, NamedTuple

from queries.positions import percent
from queries.timestamps import iso
from realtime.patch import State

#: A commit's times are mostly one and the same.
_MOMENTS_REMEMBERED: Final = 1024
_USER_CHARACTERS: Final = 36
#: 128 bits.
_CODE_CHARACTERS: Final = 32
_FIRST_MOMENT: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ForgedTellingError(ValueError):
    """An item came on the channel of the capture, and the capture did not make it."""


class Told(NamedTuple):
    """One account's step from revision ``base`` to ``revision``; all is as it was told, whose it is too."""

    user: str
    base: int
    revision: int
    account: list[str]
    positions: list[str]


def told_code(secret: bytes, item: str) -> str:
    """The code that proves that ``item`` comes from the capture, as `guardwire.told_mac` makes it."""
    inner = sha256(secret + item.encode()).digest()
    return sha256(secret + inner).hexdigest()[:_CODE_CHARACTERS]


def read_told(
    payload: str, secret: bytes, is_wanted: Callable[[str], bool] = lambda _: True
) -> Iterator[Told]:
    """The items of a notification whose users are wanted; raises ValueError where one is not the capture's:
    its code is not made with ``secret``, or it has another shape.

    Every node hears of every commit, so what is of others is not looked at any further.
    """
    for signed in payload.split(";"):
        if is_wanted(signed[:_USER_CHARACTERS]):
            item, _, code = signed.rpartition("#")
            if not compare_digest(code.encode(), told_code(secret, item).encode()):
                raise ForgedTellingError("an item whose code is wrong")
            head, *positions = item.split("|")
            user, base, revision, *account = head.split(" ")
            yield Told(user, int(base), int(revision), account, positions)


def state_after(before: State, told: Told) -> tuple[State, State] | None:
    """The state at ``told.revision`` and the merge patch that leads there from ``before``, which is the state
    at ``told.base`` and is left as it is.

    None when the two do not fit, which a read must then settle. Raises ValueError as `read_told` does.
    """
    total_syncs, last_sync_at, duration_ms, last_position_at, balance = told.account
    status, positions = before["status"], before["positions"]
    book = positions["open"]
    moved = _moved(book, told.positions)
    if moved is None:
        return None
    patch: State = {}
    of_status = _differing(
        status,
        total_syncs=int(total_syncs),
        last_sync_at=moment(last_sync_at),
        last_sync_duration_ms=float(duration_ms) if duration_ms else None,
    )
    if of_status:
        patch["status"] = of_status
        status = status | of_status
        if not duration_ms:
            status.pop("last_sync_duration_ms", None)
    of_book = _differing(positions, last_updated_at=moment(last_position_at))
    if moved:
        of_book |= _sums(positions, moved, balance)
        of_book["open"] = moved
    if of_book:
        patch["positions"] = of_book
        open_positions = book | {ticket: book[ticket] | fields for ticket, fields in moved.items()}
        positions = positions | of_book | {"open": open_positions}
    return before | {"status": status, "positions": positions}, patch


def _differing(before: State, **told: Any) -> State:
    """What was told that is another."""
    return {name: value for name, value in told.items() if before.get(name) != value}


def _moved(book: State, told: list[str]) -> State | None:
    """What changed of the positions in ``book``, by ticket; None when they are not those that were told."""
    moved: State = {}
    for item in told:
        ticket, matched, current_price, profit, pct, updated_at = item.split(" ")
        held = book.get(ticket)
        # What is not matched is not listed, and a plain sync changes neither.
        if (held is not None) != (matched == "1"):
            return None
        if held is not None:
            fields = _differing(
                held,
                current_price=float(current_price),
                unrealized_pnl=float(profit),
                unrealized_pnl_pct=float(pct),
                last_updated_at=moment(updated_at),
            )
            if fields:
                moved[ticket] = fields
    return moved


def _sums(positions: State, moved: State, balance: str) -> State:
    """The sums that differ, where there were sums: what currencies they are in has not changed."""
    before = positions.get("total_unrealized_pnl")
    if before is None:
        return {}
    book = positions["open"]
    # In whole cents, which add up exactly.
    total_cents = _cents(before) + sum(
        _cents(fields["unrealized_pnl"]) - _cents(book[ticket]["unrealized_pnl"])
        for ticket, fields in moved.items()
        if "unrealized_pnl" in fields
    )
    sums = {"total_unrealized_pnl": total_cents / 100}
    if "total_unrealized_pnl_pct" in positions:
        sums["total_unrealized_pnl_pct"] = percent(total_cents / 100, float(balance))
    return _differing(positions, **sums)


def _cents(amount: float) -> int:
    return round(amount * 100)


@lru_cache(maxsize=_MOMENTS_REMEMBERED)
def moment(unix_us: str) -> str:
    """ISO 8601 of microseconds since 1970."""
    seconds, microseconds = divmod(int(unix_us), 1_000_000)
    return f"{_second(seconds)}{microseconds:06d}Z"


@lru_cache(maxsize=_MOMENTS_REMEMBERED)
def _second(unix_seconds: int) -> str:
    return iso(_FIRST_MOMENT + timedelta(seconds=unix_seconds))[: -len("000000Z")]
