"""The applier's side of the relay: publishes changes to Redis while this process holds the applier's lease.

Nothing here waits for Redis. Redis sends no replies to changes (CLIENT REPLY OFF). With each canary it is asked for
replies, which show that it is there, that it is no replica, and that this login may publish.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

import hiredis
from redis.exceptions import RedisError

from queries.delta import user_of
from realtime.feed.changes import Changes
from realtime.feed.relay import messages
from realtime.feed.relay.link import LINK_ERRORS, Address, Command, Link
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

CANARY_SECONDS: Final = 0.8
#: The name of the connection in CLIENT LIST.
NAME: Final = "guardwire-relay"
#: A slow Redis costs the applier so much memory; messages beyond it are dropped, and the sweeps find their changes.
_MOST_WAITING_BYTES: Final = 4 * 1024 * 1024
_ANSWER_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.25
_LEAST_BACKOFF_SECONDS: Final = 0.25
_MOST_BACKOFF_SECONDS: Final = 2.0
_RELAY_KEY_MS: Final = 5000
#: Replies to the commands of `_canary_commands`; the last one turns replies off.
_REPLIES_TO_CANARY: Final = 3


class Publisher:
    """Connected from `begin` to `end`; ``redis_url`` is that of the store."""

    def __init__(self, *, redis_url: str, name: str, canary_seconds: float = CANARY_SECONDS) -> None:
        """``name`` is this process's, for the key that says which process relays."""
        self._address = Address.of(redis_url)
        self._channels = messages.Channels(self._address.database)
        self._name = name
        self._canary_seconds = canary_seconds
        self._secret = b""
        self._begun = asyncio.Event()
        self._link: Link | None = None
        self._canaries = 0
        self._canary_at = float("-inf")
        # Replies to canaries that have not come, and since when.
        self._awaited = 0
        self._awaited_at = 0.0
        self._is_answered = False
        self._was_reported = False

    @property
    def is_up(self) -> bool:
        """Whether Redis takes what is published now; if not, nodes need NOTIFY."""
        link = self._link
        return self._is_answered and link is not None and link.waiting_bytes <= _MOST_WAITING_BYTES

    def begin(self) -> None:
        """This process holds the lease from now on."""
        self._begun.set()

    def end(self) -> None:
        """This process does not hold the lease any more."""
        self._begun.clear()

    def take_secret(self, secret: bytes) -> None:
        """Authenticate messages by ``secret`` from now on."""
        self._secret = secret

    def publish(self, changes: Changes) -> None:
        """Publish the changes of a batch, each on the channel of its account."""
        if not self._begun.is_set():
            return
        commands = list(self._commands(changes))
        link = self._link
        if link is None or not self._secret or link.waiting_bytes > _MOST_WAITING_BYTES:
            METRICS.relay_dropped.add(len(commands))
        elif commands:
            link.send(commands)
            METRICS.relay_published.add(len(commands))

    def publish_notice(self, account: UUID, revision: int) -> None:
        """Publish a change notice that this process heard by NOTIFY."""
        self.publish(Changes((), [(account, revision)]))

    def publish_canary(self, term: int) -> None:
        """Publish a canary when one is due: the applier works, and everything up to here was published."""
        now = time.monotonic()
        link = self._link
        if link is None or not self._secret or now - self._canary_at < self._canary_seconds:
            return
        self._canary_at = now
        self._canaries += 1
        if not self._awaited:
            self._awaited_at = now
        self._awaited += _REPLIES_TO_CANARY
        link.send(self._canary_commands(messages.canary(term, self._canaries)))

    async def run(self) -> None:
        """Stay connected while this process holds the lease, for ever."""
        backoff = _LEAST_BACKOFF_SECONDS
        while True:
            await self._begun.wait()
            try:
                await self._serve()
                backoff = _LEAST_BACKOFF_SECONDS
            except LINK_ERRORS as error:
                self._report_lost(error)
                backoff = (
                    _LEAST_BACKOFF_SECONDS if self._is_answered else min(2 * backoff, _MOST_BACKOFF_SECONDS)
                )
                self._is_answered = False
                await asyncio.sleep(backoff)

    async def _serve(self) -> None:
        link = await Link.open(self._address, name=NAME, on_reply=self._on_reply)
        try:
            link.send([("CLIENT", "REPLY", "OFF")])
            self._awaited, self._canary_at, self._is_answered = 0, float("-inf"), False
            self._link = link
            while self._begun.is_set():
                await asyncio.wait([link.lost], timeout=_LOOK_SECONDS)
                if link.lost.done():
                    raise ConnectionResetError("Redis closed the connection")
                if self._awaited and time.monotonic() - self._awaited_at > _ANSWER_SECONDS:
                    raise TimeoutError("Redis does not answer")
        finally:
            self._link = None
            link.close()

    def _on_reply(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            # Without the text: it may quote a command.
            self._report_lost(RedisError(str(reply).partition(" ")[0]))
            self._is_answered = False
            if self._link is not None:
                self._link.close()
            return
        self._awaited -= 1
        self._awaited_at = time.monotonic()
        if not self._awaited:
            self._is_answered = True
            self._report_back()

    def _commands(self, changes: Changes) -> Iterator[Command]:
        for delta in changes.deltas:
            yield "PUBLISH", self._channels.of(user_of(delta)), messages.message(self._secret, delta)
        for account, revision in changes.notices:
            user = str(account)
            text = messages.notice(user, revision)
            yield "PUBLISH", self._channels.of(user), messages.message(self._secret, text)

    def _canary_commands(self, text: str) -> list[Command]:
        return [
            ("CLIENT", "REPLY", "ON"),
            ("SET", self._channels.relay_key, self._name, "PX", _RELAY_KEY_MS),
            ("PUBLISH", self._channels.canary, messages.message(self._secret, text)),
            ("CLIENT", "REPLY", "OFF"),
        ]

    def _report_lost(self, error: Exception) -> None:
        if not self._was_reported:
            log.warning(
                "the relay does not reach Redis, and nodes are notified by PostgreSQL: %s", _reason(error)
            )
        self._was_reported = True

    def _report_back(self) -> None:
        if self._was_reported:
            log.warning("the relay reaches Redis again")
        self._was_reported = False


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, RedisError | ConnectionResetError) else type(error).__name__
