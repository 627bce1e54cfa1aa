"""The changes of one batch, as the applier publishes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID


class Changes(NamedTuple):
    """``deltas`` of accounts, and (account, revision) of the accounts that have to be read."""

    deltas: Sequence[str]
    notices: Sequence[tuple[UUID, int]]
