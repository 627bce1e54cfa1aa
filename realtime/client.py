"""The former name of `guardwire`; the next release removes it."""

from __future__ import annotations

import warnings

from guardwire import Account, Change, ClientError, ConnectionRefused, StaleState, Token, connect
from guardwire import Level as Status

__all__ = [
    "Account",
    "Change",
    "ClientError",
    "ConnectionRefused",
    "StaleState",
    "Status",
    "Token",
    "connect",
]

warnings.warn(
    "realtime.client is now guardwire: from guardwire import connect", DeprecationWarning, stacklevel=2
)
