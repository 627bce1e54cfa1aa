"""Records in PostgreSQL's own binary form: an unchanged record is recognised by its bytes and decoded only once.

A statement sends one record as ``record_send(ROW(…))``. Most records are the same as at the last read. Looking up their
bytes costs a twentieth of decoding their fields, and the database converts no numbers to text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from queries.timestamps import iso

_COUNT: Final = struct.Struct(">i").unpack_from
_HEAD: Final = struct.Struct(">Ii").unpack_from
_NUMERIC: Final = struct.Struct(">HhHH").unpack_from
_DIGITS_BASE: Final = 10_000
_NEGATIVE: Final = 0x4000
_NOT_FINITE: Final = {0xC000: float("nan"), 0xD000: float("inf"), 0xF000: float("-inf")}
#: Texts, times and numbers that records share: a record with a new price has the entry, the limits and the times of the
#: old one.
_VALUES_REMEMBERED: Final = 16_384
_FIRST_MOMENT: Final = datetime(2000, 1, 1, tzinfo=UTC)


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """A pure function with a cache of the values that were asked for since the call of `forget_unused` before the last.

    The cache grows with the accounts that are being read. An account that is read once
    and then idle takes one number. More than ``most`` values between two calls age faster.
    """

    def __init__(self, make: Callable[[Key], Value], *, most: int) -> None:
        self._make = make
        self._most = most
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}
        self._seen: set[int] = set()
        self._seen_before: set[int] = set()
        _REMEMBERED.append(self)

    def __call__(self, key: Key) -> Value:
        found = self._young.get(key)
        if found is None:
            if len(self._young) + len(self._seen) >= self._most:
                self.age()
            found = self._old.pop(key, None)
            if found is None:
                found = self._make(key)
                if self._is_new(hash(key)):
                    return found
            self._young[key] = found
        return found

    def _is_new(self, mark: int) -> bool:
        if mark in self._seen or mark in self._seen_before:
            return False
        self._seen.add(mark)
        return True

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def age(self) -> None:
        """Forget the values that were not asked for since the last call."""
        self._old, self._young = self._young, {}
        self._seen_before, self._seen = self._seen, set()


_REMEMBERED: Final[list[Remembered[Any, Any]]] = []


def forget_unused() -> None:
    """Forget the records that were not read since the last call; a node calls this every few seconds."""
    for each in _REMEMBERED:
        each.age()


def read(record: bytes) -> list[Any]:
    """The fields of a record: numbers with decimals as float, times as ISO 8601, UUIDs as text, null as None.

    Raises KeyError for a type that no statement here sends.
    """
    fields: list[Any] = []
    at = 4
    for _ in range(_COUNT(record)[0]):
        kind, length = _HEAD(record, at)
        at += 8
        if length < 0:
            fields.append(None)
        else:
            fields.append(_READERS[kind](record[at : at + length]))
            at += length
    return fields


def ends_true(record: bytes) -> bool:
    """Whether the last field of a record is the boolean true."""
    return record[-1] == 1


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _boolean(data: bytes) -> bool:
    return data != b"\0"


@lru_cache(maxsize=_VALUES_REMEMBERED)
def _text(data: bytes) -> str:
    return data.decode()


@lru_cache(maxsize=_VALUES_REMEMBERED)
def _moment(data: bytes) -> str:
    return iso(_FIRST_MOMENT + timedelta(microseconds=_integer(data)))


def _uuid(data: bytes) -> str:
    digits = data.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _double(data: bytes) -> float:
    (value,) = struct.unpack(">d", data)
    return float(value)


@lru_cache(maxsize=_VALUES_REMEMBERED)
def _numeric(data: bytes) -> float:
    """The nearest double, as from the database's own cast."""
    count, weight, sign, _ = _NUMERIC(data)
    if sign in _NOT_FINITE:
        return _NOT_FINITE[sign]
    whole = 0
    for digit in struct.unpack_from(f">{count}H", data, 8):
        whole = whole * _DIGITS_BASE + digit
    places = count - 1 - weight
    # Dividing whole numbers rounds once; dividing floats would round twice.
    value = whole / _DIGITS_BASE**places if places > 0 else float(whole * _DIGITS_BASE**-places)
    return -value if sign == _NEGATIVE else value


#: By the number of the type in PostgreSQL's catalogue, which never changes for a built-in type.
_READERS: Final[Mapping[int, Callable[[bytes], Any]]] = {
    16: _boolean,
    20: _integer,
    21: _integer,
    23: _integer,
    25: _text,
    701: _double,
    1184: _moment,
    1700: _numeric,
    2950: _uuid,
}
