"""What a refusal must be: an AuthenticationError of one reason, that shows nothing of what was sent."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pytest

from auth.refusals import SENTENCES, Reason
from realtime.errors import AuthenticationError

_SHORTEST_TELLING_PIECE = 16


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
    # As a log handler would print it: with causes and contexts, without the test's own source lines.
    told = "".join(
        line for chain in _chain(caught.value) for line in traceback.format_exception_only(type(chain), chain)
    )
    for start in range(max(0, len(secret) - _SHORTEST_TELLING_PIECE)):
        assert secret[start : start + _SHORTEST_TELLING_PIECE] not in told


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
