"""The clock of a simulated platform, which gives its rows their times: right, ahead, behind, or stepping back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

#: The step of local time at the end of summer time.
_STEP: Final = timedelta(hours=-1)
_STEP_AFTER_SECONDS: Final = 30.0
_OFFSET: Final = re.compile(r"(?P<sign>[+-])(?P<number>\d{1,6})(?P<unit>[hms])")
_UNITS: Final = {"h": "hours", "m": "minutes", "s": "seconds"}


@dataclass(frozen=True, slots=True)
class PlatformClock:
    """A clock that differs from the right time by ``offset``, from ``after_seconds`` of the run on."""

    offset: timedelta = timedelta(0)
    after_seconds: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The clock that ``text`` names: ``+3h``, ``-2h``, ``+90s`` …, or ``step``.

        ``step`` is right for half a minute, and then an hour behind. Raises ValueError for any other text.
        """
        if text == "step":
            return cls(_STEP, _STEP_AFTER_SECONDS)
        found = _OFFSET.fullmatch(text)
        if found is None:
            raise ValueError(f"the clock {text!r} is none of +3h, -2h (or m, s) and step")
        size = timedelta(**{_UNITS[found["unit"]]: int(found["number"])})
        return cls(size if found["sign"] == "+" else -size)

    def offset_at(self, run_seconds: float) -> timedelta:
        """The offset of the clock ``run_seconds`` after the start of the run."""
        return self.offset if run_seconds >= self.after_seconds else timedelta(0)
