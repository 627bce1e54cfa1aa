"""A node in production mode in the test's own process, which verifies tokens with an operator's settings."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
from websockets.asyncio.client import connect

from app import serving
from realtime.settings import Settings
from tests.auth.issuer import AUDIENCE, ISSUER


@contextlib.asynccontextmanager
async def serving_with(database_url: str, redis_url: str, **keys: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a node in production mode, whose tokens are signed with ``keys``."""
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        port=0,
        jwt_issuer=ISSUER,
        jwt_audience=(AUDIENCE,),
        **keys,
    )
    async with (
        serving(settings) as url,
        httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client,
    ):
        yield client


def bearer(token: str) -> dict[str, str]:
    """The header of a program."""
    return {"Authorization": f"Bearer {token}"}


def stream(client: httpx.AsyncClient, token: str | None = None) -> connect:
    """A WebSocket of a program; without ``token`` that of a browser."""
    url = str(client.base_url).replace("http", "ws", 1) + "/ws"
    return connect(url, additional_headers=None if token is None else bearer(token))
