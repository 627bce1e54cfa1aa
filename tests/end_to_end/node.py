"""A whole server on a free port, for tests from the outside."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from app import Development, serving
from auth.development import DevelopmentKey
from realtime.settings import Settings


@dataclass(frozen=True)
class Node:
    """A running server: its address, and tokens that it accepts."""

    url: str
    key: DevelopmentKey
    client: httpx.AsyncClient = field(repr=False)

    def token(self, user_id: UUID) -> str:
        """A token for ``user_id``."""
        return self.key.issue(user_id)

    async def get(self, path: str, user_id: UUID) -> Any:
        """The JSON that ``path`` returns to ``user_id``."""
        response = await self.client.get(path, headers={"Authorization": f"Bearer {self.token(user_id)}"})
        assert response.status_code == 200, response.text
        return json.loads(response.text)


@contextlib.asynccontextmanager
async def node(
    database_url: str, redis_url: str = "", *, key: DevelopmentKey | None = None, **settings: Any
) -> AsyncIterator[Node]:
    """Serve while the context lasts; nodes that share a ``key`` accept each other's tokens."""
    key = key or DevelopmentKey(secrets.token_hex(32))
    chosen = Settings(mode="development", database_url=database_url, redis_url=redis_url, port=0, **settings)
    async with (
        serving(chosen, development=Development(key=key)) as url,
        httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as client,
    ):
        yield Node(url, key, client)
