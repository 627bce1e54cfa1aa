"""Which route answers: the one that Starlette's router would choose, found with or without its search."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from realtime.delivery.http.application import Application
from tests.delivery.asgi_server import serving


def saying(word: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(f"{word} {request.path_params}")

    return endpoint


ROUTES = [
    Route("/open", saying("open")),
    Route("/both", saying("read"), methods=["GET"]),
    Route("/both", saying("written"), methods=["POST"]),
    Mount("/files", routes=[Route("/index", saying("file"))]),
    Route("/files/index", saying("hidden by the mount")),
    Route("/{name}", saying("named")),
    Route("/closed", saying("hidden by the parameter")),
]


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/open", "open {}"),
        ("HEAD", "/open", ""),
        ("GET", "/%6Fpen", "open {}"),
        ("GET", "/both", "read {}"),
        ("POST", "/both", "written {}"),
        ("GET", "/files/index", "file {}"),
        ("GET", "/anything", "named {'name': 'anything'}"),
        ("GET", "/closed", "named {'name': 'closed'}"),
    ],
)
async def test_the_first_route_that_matches_answers(method: str, path: str, said: str) -> None:
    async with serving(Application(ROUTES)) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.text) == (200, said)


async def test_a_method_that_no_route_of_the_path_takes_is_a_405() -> None:
    async with serving(Application(ROUTES[:3])) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.delete("/both")).status_code == 405
        assert (await client.delete("/open")).status_code == 405


async def test_below_another_root_paths_are_the_same() -> None:
    app = Application([Route("/gw/open", saying("outside")), *ROUTES])
    async with serving(app, root_path="/gw") as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/open")).text == "open {}"
        assert (await client.get("/anything")).text == "named {'name': 'anything'}"
