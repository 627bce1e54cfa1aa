"""The identity provider's public keys (RFC 7517), fetched as needed and kept while the provider is away.

An endpoint that is down, slow or hostile delays a verifier for at most one cool-down and one fetch. Memory holds at
most `MAX_KEYS` keys. The last good keys stay in use for ``keep_seconds``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final

from auth.fetch import DocumentUrl, fetch
from auth.keys import VerifyingKey, public_key
from auth.refusals import refusal
from realtime.errors import UnavailableError

MAX_DOCUMENT_BYTES: Final = 262_144
MAX_KEYS: Final = 32
#: A token without `kid` is tried with this many keys of its algorithm.
MAX_CANDIDATES: Final = 4
#: Tokens with an unknown key that may wait for the next fetch at once; further ones are refused with a 503.
MAX_WAITING: Final = 64

logger = logging.getLogger(__name__)


class Jwks:
    """The keys at one JWKS address, in memory: `run` renews them, and an unknown key id fetches them again.

    Each fetch replaces the set. A key that is missing from the new set is withdrawn: neither the key nor any
    token that it signed is accepted from then on. A document without one usable key counts as a failed fetch.
    """

    algorithms = frozenset({"RS256", "ES256", "EdDSA", "Ed25519"})

    def __init__(
        self,
        *,
        url: str,
        refresh_seconds: float = 300.0,
        cooldown_seconds: float = 3.0,
        timeout_seconds: float = 4.0,
        keep_seconds: float = 86_400.0,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At least ``cooldown_seconds`` pass between two fetches.

        Keys that no fetch has confirmed for ``keep_seconds`` are dropped.
        """
        self._url = DocumentUrl(url)
        self._refresh_seconds = refresh_seconds
        self._cooldown_seconds = cooldown_seconds
        self._timeout_seconds = timeout_seconds
        self._keep_seconds = keep_seconds
        # Loading the system's certificates takes 20 ms, so it is done here and not while a token waits.
        self._tls = tls or (ssl.create_default_context() if self._url.secure else None)
        self._clock = clock
        self._keys: dict[bytes, VerifyingKey] = {}
        self._withdrawals = 0
        self._confirmed_at: float | None = None
        self._attempted_at: float | None = None
        self._flight: asyncio.Task[bool] | None = None
        self._waiting = 0
        #: Fetches so far, and those that failed, for metrics.
        self.fetches = self.failures = 0

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the keys were last confirmed; None before the first time."""
        return None if self._confirmed_at is None else self._clock() - self._confirmed_at

    def find(self, algorithm: str, key_id: str | None) -> Sequence[VerifyingKey]:
        """The keys in memory for this header; without ``kid``, up to `MAX_CANDIDATES` of its algorithm."""
        self._drop_unconfirmed()
        found = [
            key
            for key in self._keys.values()
            if algorithm in key.algorithms and (key_id is None or key.key_id == key_id)
        ]
        return found[:MAX_CANDIDATES]

    def holds(self, fingerprint: bytes) -> bool:
        """Whether the key with this fingerprint is in the set, and a fetch confirmed the set in time."""
        return fingerprint in self._keys and not self._is_unconfirmed()

    def withdrawals(self) -> int:
        """How many keys have been withdrawn so far."""
        self._drop_unconfirmed()
        return self._withdrawals

    async def fetch_again(self) -> None:
        """Wait for the next fetch.

        Raises AuthenticationError(unavailable) when it fails, or when `MAX_WAITING` tokens wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise refusal("unavailable")
        self._waiting += 1
        try:
            if not await self.refresh():
                raise refusal("unavailable")
        finally:
            self._waiting -= 1

    async def refresh(self) -> bool:
        """Fetch as soon as the cool-down is over; False when that failed. Callers meanwhile share one fetch."""
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._fetch_in_time(), name="jwks fetch")
        return await asyncio.shield(self._flight)  # cancelling one caller must not cancel the others' fetch

    async def run(self) -> None:
        """Renew the keys for ever; raises nothing but CancelledError."""
        while True:
            renewed = await self.refresh()
            pause_seconds = self._refresh_seconds if renewed else min(30.0, self._refresh_seconds)
            await asyncio.sleep(pause_seconds * random.uniform(0.9, 1.1))  # noqa: S311 - nodes spread out

    async def close(self) -> None:
        """Cancel a fetch that is under way, and wait for its end."""
        if self._flight is not None and not self._flight.done():
            self._flight.cancel()
            await asyncio.wait([self._flight])

    async def _fetch_in_time(self) -> bool:
        if self._attempted_at is not None:
            await asyncio.sleep(self._attempted_at + self._cooldown_seconds - self._clock())
        self.fetches += 1
        try:
            keys = await self._fetch()
        except UnavailableError as error:
            self.failures += 1
            logger.warning("The JWKS could not be read: %s. The last good keys stay in use.", error)
            return False
        finally:
            self._attempted_at = self._clock()
        self._confirmed_at = self._clock()
        self._replace(keys)
        return True

    async def _fetch(self) -> dict[bytes, VerifyingKey]:
        body = await fetch(
            self._url, timeout_seconds=self._timeout_seconds, max_bytes=MAX_DOCUMENT_BYTES, tls=self._tls
        )
        keys = read_keys(body)
        if not keys:
            raise UnavailableError("it holds no key that could verify a token")
        return {key.fingerprint: key for key in keys}

    def _is_unconfirmed(self) -> bool:
        return self._confirmed_at is not None and self._clock() - self._confirmed_at > self._keep_seconds

    def _drop_unconfirmed(self) -> None:
        if self._keys and self._is_unconfirmed():
            logger.warning(
                "No fetch has confirmed the JWKS for %.0f s: its keys are dropped.", self.age_seconds
            )
            self._replace({})

    def _replace(self, keys: dict[bytes, VerifyingKey]) -> None:
        if keys.keys() != self._keys.keys():
            logger.info("The JWKS holds %d usable keys; before there were %d.", len(keys), len(self._keys))
        self._withdrawals += len(self._keys.keys() - keys.keys())
        self._keys = keys


def read_keys(body: bytes) -> list[VerifyingKey]:
    """The usable keys of a JWK Set, at most `MAX_KEYS`; raises UnavailableError for any other document."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise UnavailableError("it is not JSON") from None
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise UnavailableError("it is not a JWK Set")
    return [key for key in map(public_key, members[:MAX_KEYS]) if key is not None]
