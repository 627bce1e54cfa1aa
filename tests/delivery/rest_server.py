"""The REST routes of a node on a real server, fed by the test instead of a feed."""

from __future__ import annotations

import contextlib
import copy
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from auth.authenticator import Authenticator
from auth.development import DevelopmentKey
from auth.tokens import Verifier
from queries.timestamps import iso
from realtime.database import engine_for
from realtime.delivery.alerts import Alerts
from realtime.delivery.http import account
from realtime.delivery.http.alerts import alert_routes
from realtime.delivery.http.application import Application
from realtime.delivery.http.operations import EXAMPLE_STATE
from realtime.delivery.hub import Hub
from realtime.history import Store
from realtime.snapshot import Snapshot
from tests.delivery.asgi_server import serving


class RestServer:
    """A node's REST without its feed: `publish` plays it."""

    def __init__(self, client: httpx.AsyncClient, hub: Hub, key: DevelopmentKey) -> None:
        self.client = client
        self.hub = hub
        self.key = key

    async def send(
        self, method: str, path: str, user_id: UUID, *scopes: str, body: Any = None
    ) -> httpx.Response:
        """The answer to a request of ``user_id``, whose token carries ``scopes``."""
        headers = {"Authorization": f"Bearer {self.key.issue(user_id, scopes=scopes)}"}
        return await self.client.request(method, f"/api/v1/{path}", headers=headers, json=body)

    async def get(self, path: str, user_id: UUID, method: str = "GET", **headers: str) -> httpx.Response:
        """The answer to ``user_id``; headers are named with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(method, path, headers=named | self.authorization(user_id))

    def authorization(self, user_id: UUID) -> dict[str, str]:
        """The header of a program."""
        return {"Authorization": f"Bearer {self.key.issue(user_id)}"}

    def publish(
        self,
        user_id: UUID,
        state: dict[str, Any] | None = None,
        *,
        owner: UUID | None = None,
        revision: int = 7,
        age_seconds: float = 0.0,
    ) -> Snapshot:
        """Make ``state`` the account's newest, as if it had been read ``age_seconds`` ago."""
        as_of = iso(datetime.now(UTC) - timedelta(seconds=age_seconds))
        state = copy.deepcopy(state or EXAMPLE_STATE)
        snapshot = Snapshot(user_id=user_id, epoch=17, revision=revision, as_of=as_of, state=state)
        watch = self.hub.reading(user_id)
        assert watch.advance(snapshot, None, as_of=as_of, read_at=time.monotonic() - age_seconds)
        if owner is not None:
            # Past the hub's own check, which would not let it in.
            watch.snapshot = Snapshot(user_id=owner, epoch=17, revision=revision, as_of=as_of, state=state)
        return snapshot

    def sweep(self, *, age_seconds: float = 0.0) -> str:
        """A sweep that found nothing new; gives the database's time of it."""
        as_of = iso(datetime.now(UTC) - timedelta(seconds=age_seconds))
        self.hub.confirm(as_of, time.monotonic() - age_seconds, changed=[])
        return as_of


def _url_problem(kind: str, url: str) -> str | None:
    return None if url.startswith("https://") else "must begin with https://"


@contextlib.asynccontextmanager
async def rest_server(
    database_url: str = "postgresql://nobody@127.0.0.1:1/nothing", *, store: Store | None = None
) -> AsyncIterator[RestServer]:
    """Serve while the context lasts; without a ``database_url`` there is no database."""
    key = DevelopmentKey(secrets.token_hex(32))
    hub = Hub(mark_dirty=lambda _: None, stale_seconds=2.0)
    engine = engine_for(database_url, pool_size=4, pooled=False)
    authenticator = Authenticator(verifier=Verifier(keys=[key.source], rules=key.rules))
    alerts = Alerts(engine=engine)
    routes = account.routes(hub=hub, store=store, engine=engine, authenticate=authenticator.require)
    routes += alert_routes(alerts=alerts, authenticate=authenticator.require, url_problem=_url_problem)
    app = Application(routes)
    try:
        async with serving(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
            server = RestServer(client, hub, key)
            server.sweep()
            yield server
    finally:
        await engine.dispose()
