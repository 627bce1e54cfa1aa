"""Where a client's token comes from: a text, or something that is called for a new one."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Final

Token = str | Callable[[], str | Awaitable[str]]

#: An identity provider that hangs must not hang the client with it.
TIMEOUT_SECONDS: Final = 30.0


class TokenSource:
    """Asks for a token before each connection; a token is never kept, logged or put in a URL."""

    def __init__(self, token: Token) -> None:
        self._token = token

    @property
    def renewable(self) -> bool:
        """Whether another call may give another token."""
        return callable(self._token)

    async def fetch(self) -> str:
        """A token to use now; raises what the callback raises, TimeoutError after 30 s, TypeError or
        ValueError for no token.
        """
        if not callable(self._token):
            return _checked(self._token)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            token = self._token()
            if inspect.isawaitable(token):
                token = await token
        return _checked(token)


def _checked(token: object) -> str:
    if not isinstance(token, str):
        raise TypeError(f"the token callback gave {type(token).__name__}, not str")
    # Read from a file it ends in a line break, and a line break inside would be another header.
    token = token.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ValueError("the token is empty, or holds characters that no token has")
    return token
