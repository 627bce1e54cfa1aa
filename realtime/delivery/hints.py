"""When to come back: with jitter, so that clients that were sent away together do not return together."""

from __future__ import annotations

import random


def retry_after_ms(least: int, most: int) -> int:
    """Milliseconds between ``least`` and ``most``."""
    return random.randint(least, most)  # noqa: S311 - spreading load needs no secret
