"""How many sockets may be open whose owner has not said yet who he is: from one address, and in all.

Without these a crowd that connects and says nothing could take every file descriptor, for seconds at a time.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.types import Scope

from realtime.delivery.problems import TOO_MANY_REQUESTS, ProblemResponse, unavailable
from realtime.metrics import METRICS

RETRY_AFTER_SECONDS: Final = 5
_FROM_ONE_ADDRESS: Final = (
    "Too many sockets of this address have not said who they are: send the token in the Authorization header,"
    " or come back later."
)
_IN_ALL: Final = "Too many sockets have not said who they are; come back in a few seconds."
#: What one subscriber is usually given, so that he cannot be many (RFC 6177).
_IPV6_PREFIX_BITS: Final = 64


class Strangers:
    """Counts them; a socket is one from its handshake until it has said hello, or is gone."""

    def __init__(self, *, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._counts: Counter[str] = Counter()
        self._all = 0

    def refusal(self, address: str) -> ProblemResponse | None:
        """What to answer to one more handshake from ``address``; None when it may come in."""
        if self._all >= self._most:
            METRICS.strangers_refused.add(1, "all")
            return unavailable(_IN_ALL, retry_after_seconds=RETRY_AFTER_SECONDS)
        if self._counts[address] >= self._most_per_address:
            METRICS.strangers_refused.add(1, "address")
            headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
            return ProblemResponse(TOO_MANY_REQUESTS, detail=_FROM_ONE_ADDRESS, headers=headers)
        return None

    def enter(self, address: str) -> None:
        """One more is open."""
        self._counts[address] += 1
        self._tell(1)

    def leave(self, address: str) -> None:
        """One of them has said who he is, or is gone."""
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]
        self._tell(-1)

    def _tell(self, change: int) -> None:
        self._all += change
        METRICS.strangers.set(self._all)


def address_of(scope: Scope) -> str:
    """Where a connection comes from, as far as that tells people apart; "" where it is not known.

    The scope's client is the peer of the TCP connection, unless that is a trusted proxy, which then says.
    """
    client = scope.get("client")
    try:
        address = ip_address("" if client is None else client[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{int(address) >> (128 - _IPV6_PREFIX_BITS):x}"
    return str(address)
