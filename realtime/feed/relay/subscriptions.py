"""The accounts whose channels this node subscribes to, and the part of them that Redis has not been sent yet; pure."""

from __future__ import annotations

import asyncio


class Subscriptions:
    """The hub adds and removes accounts, and `Subscriber` sends the difference."""

    def __init__(self) -> None:
        self._wanted: dict[str, None] = {}
        self._sent: set[str] = set()
        self._changed: dict[str, None] = {}
        self._any = asyncio.Event()

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, account: str) -> None:
        """Subscribe to an account."""
        self._wanted[account] = None
        self._compare(account)

    def discard(self, account: str) -> None:
        """Unsubscribe from an account."""
        self._wanted.pop(account, None)
        self._compare(account)

    def start_again(self) -> None:
        """Note that a new connection has no subscription."""
        self._sent.clear()
        self._changed = dict(self._wanted)
        self._any.set()

    async def changed(self) -> None:
        """Wait until there is a difference."""
        await self._any.wait()

    def take(self) -> tuple[list[str], list[str]]:
        """The accounts to subscribe to and to unsubscribe from now; the caller sends both."""
        changed, self._changed = self._changed, {}
        self._any.clear()
        subscribe = [account for account in changed if account in self._wanted]
        unsubscribe = [account for account in changed if account not in self._wanted]
        self._sent.update(subscribe)
        self._sent.difference_update(unsubscribe)
        return subscribe, unsubscribe

    def _compare(self, account: str) -> None:
        if (account in self._wanted) == (account in self._sent):
            self._changed.pop(account, None)
        else:
            self._changed[account] = None
            self._any.set()
