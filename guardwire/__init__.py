"""The client for bots: a live, typed mirror of one account, which knows how fresh it is.

    async with connect("https://guardwire.example", token=fetch_token, channels=["guards"]) as account:
        async for change in account.changes("guards"):
            await account.until_fresh()
            ...

The client reconnects, resumes and renews its token. Where no WebSocket gets through, it falls back to
Server-Sent Events and then to long polling, and it returns to the WebSocket later.

The server shares `guardwire.messages`, `state`, `patch` and `errors`. This package imports nothing of the server.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardwire.account import Account, Change
    from guardwire.alerts import OpenAlert
    from guardwire.client import connect
    from guardwire.connection import Token
    from guardwire.errors import ClientError, ConnectionRefused, RequestRefused, StaleState
    from guardwire.mirror import Level
else:

    def __getattr__(name: str) -> object:
        """Import the client when one of its names is first used: the server needs only the vocabulary."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module("guardwire.client"), name)


__all__ = [
    "Account",
    "Change",
    "ClientError",
    "ConnectionRefused",
    "Level",
    "OpenAlert",
    "RequestRefused",
    "StaleState",
    "Token",
    "connect",
]
__version__ = "0.1.0"
