"""A logical Redis database for this run alone, on a server that other runs of the tests may use too."""

from __future__ import annotations

import secrets
import time
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import redis

NOTICE_SECONDS: Final = 3.0
CLAIM_SECONDS: Final = 7200


class LogicalRedis:
    """One logical database, claimed for this run, empty at the beginning of each test."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._server = redis.Redis.from_url(server_url)
        self._token = secrets.token_hex(8)
        self._index = self._claim()
        self.url = urlunsplit(urlsplit(server_url)._replace(path=f"/{self._index}"))

    def empty(self) -> None:
        """Remove every key of our own logical database, and of no other."""
        with redis.Redis.from_url(self.url) as ours:
            ours.flushdb()

    def send_clients_away(self, *, notice_seconds: float = NOTICE_SECONDS) -> list[str]:
        """Wait until no client uses our logical database; returns the addresses of those that stay.

        The server has ``notice_seconds`` to notice a closed connection. The clients that stay are disconnected, so that
        they do not fail the next test.
        """
        deadline = time.monotonic() + notice_seconds
        while left := self._clients():
            if time.monotonic() > deadline:
                for address in left:
                    self._server.client_kill_filter(addr=address)
                return left
            time.sleep(0.005)
        return []

    def release(self) -> None:
        """Give the logical database back."""
        self.empty()
        self._server.delete(self._key(self._index))
        self._server.close()

    def _clients(self) -> list[str]:
        mine = str(self._index)
        return [client["addr"] for client in self._server.client_list() if client["db"] == mine]

    def _claim(self) -> int:
        count = int(self._server.config_get("databases")["databases"] or 16)
        for index in range(1, count):
            if self._server.set(self._key(index), self._token, nx=True, ex=CLAIM_SECONDS):
                return index
        raise RuntimeError(
            f"all {count - 1} logical databases of {self._server_url} are in use by other runs"
        )

    @staticmethod
    def _key(index: int) -> str:
        return f"guardwire:tests:claimed:{index}"
