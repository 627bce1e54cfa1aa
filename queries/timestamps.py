"""Times as the stream writes them."""

from __future__ import annotations

from datetime import datetime


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with six decimals and ``Z``; ``moment`` must be in UTC, as the driver gives it."""
    # Cutting the offset off is a third cheaper than making the datetime naive first.
    return moment.isoformat(timespec="microseconds")[:26] + "Z"
