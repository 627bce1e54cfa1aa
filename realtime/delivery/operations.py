"""What operators and their machines ask: is the process alive, is it ready, and what has it counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from realtime.metrics import METRICS

_NO_STORE: Final = {"cache-control": "no-store"}
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


def operation_routes(*, not_ready: Callable[[], str | None]) -> list[Route]:
    """`/livez`, `/readyz` and `/metrics`; ``not_ready`` says why this node should get no new clients, or
    None.
    """

    async def livez(_: Request) -> Response:
        return PlainTextResponse("alive\n", headers=_NO_STORE)

    async def readyz(_: Request) -> Response:
        why = not_ready()
        return PlainTextResponse(f"{why or 'ready'}\n", status_code=503 if why else 200, headers=_NO_STORE)

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(METRICS.text(), headers=_NO_STORE, media_type=_PROMETHEUS)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]
