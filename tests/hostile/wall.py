"""Observes the second wall between accounts: its counter and its log line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest

from realtime.metrics import METRICS

#: Stands in every piece of data that a test plants: no other user may ever get it, and no log may hold it.
MARK = "PLANTED"


@contextlib.contextmanager
def blocks(caplog: pytest.LogCaptureFixture, *, layer: str, whose: object) -> Iterator[None]:
    """Assert that ``layer`` stops another account's data in this block.

    The event must be counted, and logged without a word of the data or of ``whose`` it is.
    """
    before = METRICS.cross_user_blocked.get()
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        yield
    assert METRICS.cross_user_blocked.get() > before, f"nothing was stopped: {layer}"
    told = [record for record in caplog.records if "another account's data" in record.getMessage()]
    assert layer in {getattr(record, "layer", "") for record in told}
    everything = "\n".join(str(vars(record)) for record in told)
    assert MARK not in everything
    assert str(whose) not in everything
