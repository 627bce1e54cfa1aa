"""Reads numbers, times, tickets and users; a value that is none of these reads as absent."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Final
from uuid import UUID

EXACT: Final = Context(prec=400)
_LARGEST_NUMBER: Final = Decimal(10) ** 15
_FIRST_MOMENT: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MOMENT: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_UPPER: Final = str.maketrans(ascii_lowercase, ascii_uppercase)
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
_LARGEST_TICKET: Final = 2**63 - 1


def number(value: Any) -> Decimal | None:
    """A finite number below 10^15 with at most 15 decimals; None for everything else."""
    if value is None:
        return None
    decimal = value if isinstance(value, Decimal) else Decimal(str(value))
    if not decimal.is_finite() or abs(decimal) >= _LARGEST_NUMBER:
        return None
    return rounded(decimal, 15) if decimal.as_tuple().exponent < -15 else decimal  # type: ignore[operator]


def price(value: Any) -> Decimal | None:
    """A number that is not 0, which is how MetaTrader writes that there is none."""
    return number(value) or None


def volume(value: Any) -> Decimal | None:
    """A number that is not negative."""
    decimal = number(value)
    return None if decimal is None or decimal < 0 else decimal


def moment(value: datetime | str | None) -> datetime | None:
    """``value`` in UTC; None when missing, infinite (a text) or outside of 1970 to 9999."""
    if value is None or isinstance(value, str):
        return None
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return aware if _FIRST_MOMENT <= aware <= _LAST_MOMENT else None


def user(value: Any) -> UUID | None:
    """The user that a column of any type names; None when it names none."""
    if isinstance(value, UUID):
        return value
    digits = re.sub(r"[{}-]", "", str(value).strip()).lower()
    return UUID(digits) if re.fullmatch("[0-9a-f]{32}", digits) else None


def ticket(value: int | None) -> int | None:
    """A ticket that a broker could have given out."""
    return value if value is not None and 1 <= value <= _LARGEST_TICKET else None


def direction(value: Any) -> str | None:
    """``buy`` or ``sell``, also from 0 and 1 and in any case."""
    return {"buy": "buy", "0": "buy", "sell": "sell", "1": "sell"}.get(lowered(str(value).strip()))


def symbol(value: str | None) -> str | None:
    """Trimmed, at most 64 characters; None when nothing is left."""
    return trimmed(value)[:64] or None


def text(value: str | None) -> str | None:
    """Trimmed, at most 500 characters; None when nothing is left."""
    return trimmed(value)[:500] or None


def currency(value: str | None) -> str | None:
    """A currency's code: trimmed, at most 16 characters, in upper case; None when nothing is left."""
    return fold(trimmed(value)[:16]) or None


def fold(value: str | None) -> str:
    """In upper case, ASCII letters alone: what a database's locale or Python would do with others differs."""
    return (value or "").translate(_UPPER)


def lowered(value: str) -> str:
    """In lower case, ASCII letters alone."""
    return value.translate(_LOWER)


def trimmed(value: str | None) -> str:
    """Without the blanks that a keyboard makes around it; others are part of a name."""
    return (value or "").strip(" \t\r\n\f\v")


def rounded(value: Decimal, digits: int = 2) -> Decimal:
    """Rounded half away from zero."""
    with localcontext(EXACT):
        return value.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)


def iso(value: datetime) -> str:
    """As the wire writes a time."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z"
