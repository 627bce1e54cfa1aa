"""The dashboard and its modules, and in development the token that opens it without a form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from auth.origins import host_is_loopback

#: A file may be kept, but a new release is seen at once.
_REVALIDATE: Final = {"cache-control": "no-cache"}


class _Modules(StaticFiles):
    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(_REVALIDATE)
        return response


def page_routes(folder: Path, *, demo_token: Callable[[], str] | None) -> list[BaseRoute]:
    """`/` and `/static`; `/demo/token` too when ``demo_token`` makes one, which production never has."""

    async def dashboard(_: Request) -> Response:
        return FileResponse(folder / "index.html", headers=_REVALIDATE)

    async def token(request: Request) -> Response:
        # A page of another site could have its own name lead here, and would then be of our origin.
        if demo_token is None or not host_is_loopback(request.headers.raw):
            raise HTTPException(404)
        return JSONResponse({"token": demo_token()}, headers={"cache-control": "no-store"})

    routes: list[BaseRoute] = [Route("/", dashboard), Mount("/static", _Modules(directory=folder))]
    if demo_token is not None:
        routes.append(Route("/demo/token", token))
    return routes
