"""Asserts that a refusal is an AuthenticationError for one reason, and shows nothing of the request."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pytest

from auth.refusals import SENTENCES, Reason
from realtime.errors import AuthenticationError

_SHORTEST_REVEALING_PIECE = 16


@contextmanager
def refused(reason: Reason, *, secret: str = "", claims: Collection[str] = ()) -> Iterator[None]:
    """The block must be refused for ``reason`` with its own sentence, or with one that names one of
    ``claims``; and no trace of the error may hold a piece of ``secret``.
    """
    with pytest.raises(AuthenticationError) as caught:
        yield
    assert caught.value.reason == reason
    sentence = str(caught.value)
    assert any(f"`{claim}`" in sentence for claim in claims) or (not claims and sentence == SENTENCES[reason])
    # A log handler prints causes and contexts too. The test's own source lines are left out here.
    printed = "".join(
        line for chain in _chain(caught.value) for line in traceback.format_exception_only(type(chain), chain)
    )
    for start in range(max(0, len(secret) - _SHORTEST_REVEALING_PIECE)):
        assert secret[start : start + _SHORTEST_REVEALING_PIECE] not in printed


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
