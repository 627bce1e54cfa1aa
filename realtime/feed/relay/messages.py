"""The channels of Redis that the relay uses, and the text of its messages; pure.

A message is ``mac#text``, with the message authentication code of `queries.delta`. The text is a delta or a change
notice (``account=revision``) of the channel's account, or on the canary's channel ``canary=term.number``.
"""

from __future__ import annotations

from typing import Final

from queries.delta import mac_of

_CANARY: Final = "canary="


class Channels:
    """The names of the channels. Redis does not separate the channels of its databases, so each name has the number of
    the database. The braces make all keys and the channel of an account stand in one slot of a cluster.
    """

    def __init__(self, database: int) -> None:
        self._prefix = f"guardwire:{database}:{{"
        self.canary = f"guardwire:{database}:canary"
        #: The key that the applier writes before each canary: a server that has become a replica refuses it.
        self.relay_key = f"guardwire:{database}:relay"

    def of(self, account: str) -> str:
        """The channel of an account."""
        return f"{self._prefix}{account}}}:changes"

    def account_of(self, channel: str) -> str:
        """The account of a channel that `of` named."""
        return channel[len(self._prefix) :].partition("}")[0]


def message(secret: bytes, text: str) -> str:
    """``text`` with its message authentication code."""
    return f"{mac_of(secret, text)}#{text}"


def notice(account: str, revision: int) -> str:
    """The text of a change notice."""
    return f"{account}={revision}"


def parse_notice(text: str) -> tuple[str, int] | None:
    """The account and the revision of a change notice; None for a delta."""
    account, separator, revision = text.partition("=")
    return (account, int(revision)) if separator and revision.isdecimal() else None


def canary(term: int, number: int) -> str:
    """The text of the canary ``number`` of a term."""
    return f"{_CANARY}{term}.{number}"


def parse_canary(text: str) -> tuple[int, int] | None:
    """The term and the number of a canary, which grow from one canary to the next; None for other text."""
    name, _, place = text.partition("=")
    term, _, number = place.partition(".")
    is_canary = f"{name}=" == _CANARY and term.isdecimal() and number.isdecimal()
    return (int(term), int(number)) if is_canary else None
