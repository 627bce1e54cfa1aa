"""Every error over HTTP is a problem document."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from auth.refusals import SENTENCES, refusal
from realtime.delivery.http.application import Application
from realtime.delivery.http.problems import TYPES, TYPES_PATH, ProblemTypes
from realtime.errors import AuthenticationError, UnavailableError
from tests.delivery.asgi_server import serving

ERRORS: dict[str, Exception] = {
    **{reason: refusal(reason) for reason in SENTENCES},
    "no-answer": UnavailableError("The database cannot be reached now; try again in a moment."),
    "teapot": HTTPException(418),
    "gone-on": HTTPException(429, headers={"retry-after": "7"}),
    "detailed": HTTPException(422, "`symbol` must be short."),
    "bug": KeyError("secret-internal"),
}


async def fail(request: Request) -> Response:
    raise ERRORS[request.path_params["error"]]


async def break_off(_: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    return StreamingResponse(body(), headers={"content-length": "8"})


@pytest.fixture
async def site() -> AsyncIterator[httpx.AsyncClient]:
    app = Application(
        [
            Route("/fail/{error}", fail),
            Route("/break-off", break_off),
            Route(TYPES_PATH, ProblemTypes(), methods=["GET"]),
            Route(TYPES_PATH + "/{name}", ProblemTypes(), methods=["GET"]),
        ]
    )
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    document: dict[str, Any] = answer.json()
    assert document.keys() == {"type", "title", "status", "detail", "instance", "request_id"}
    assert document["status"] == answer.status_code
    assert document["instance"] == answer.request.url.raw_path.decode().partition("?")[0]
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


@pytest.mark.parametrize("reason", SENTENCES)
async def test_every_reason_to_refuse_has_its_status_and_sentence(
    site: httpx.AsyncClient, reason: str
) -> None:
    answer = await site.get(f"/fail/{reason}")
    document = problem(answer)
    error = ERRORS[reason]
    assert isinstance(error, AuthenticationError)
    assert answer.status_code == error.status
    assert document["detail"] == SENTENCES[error.reason]  # type: ignore[index]
    assert ("www-authenticate" in answer.headers) == (error.status == 401 or reason == "scope")
    assert ("retry-after" in answer.headers) == (error.status == 503)


async def test_a_request_without_a_token_is_asked_for_one_and_gets_no_error_code(
    site: httpx.AsyncClient,
) -> None:
    missing, expired = await site.get("/fail/missing"), await site.get("/fail/expired")
    assert missing.headers["www-authenticate"] == 'Bearer realm="guardwire"'
    assert 'error="invalid_token"' in expired.headers["www-authenticate"]


async def test_an_answer_that_cannot_be_had_now_says_when_to_ask_again(site: httpx.AsyncClient) -> None:
    answer = await site.get("/fail/no-answer")
    assert problem(answer)["detail"] == str(ERRORS["no-answer"])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_detail_is_of_this_very_problem_or_else_of_its_type(
    site: httpx.AsyncClient,
) -> None:
    assert problem(await site.get("/fail/detailed"))["detail"] == "`symbol` must be short."
    answer = await site.get("/fail/gone-on")
    assert problem(answer)["detail"] == TYPES["too-many-requests"].mend
    assert answer.headers["retry-after"] == "7"


async def test_unknown_paths_are_problems(site: httpx.AsyncClient) -> None:
    for path in ("/nowhere", "/api/v1/positions/open/more", "/%E2%82%AC/%00%0A", "/a'b\"c<d>"):
        answer = await site.get(path)
        assert answer.status_code == 404
        assert answer.json()["type"] == "/api/v1/problems/not-found"
        assert answer.json()["instance"].isascii()


async def test_a_query_is_never_repeated(site: httpx.AsyncClient) -> None:
    answer = await site.get("/nowhere?token=abcdef", headers={"authorization": "Bearer abcdef"})
    assert "abcdef" not in answer.text


async def test_a_very_long_path_is_not_repeated_whole(site: httpx.AsyncClient) -> None:
    assert len((await site.get("/" + "x" * 20_000)).content) < 2_000


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_a_wrong_method_is_answered_with_the_right_ones(site: httpx.AsyncClient, method: str) -> None:
    answer = await site.request(method, "/fail/bug")
    assert answer.headers["allow"] == "GET, HEAD"
    assert problem(answer)["type"] == "/api/v1/problems/method-not-allowed"


async def test_a_status_without_a_type_of_ours_is_about_blank(site: httpx.AsyncClient) -> None:
    document = problem(await site.get("/fail/teapot"))
    assert (document["type"], document["title"], document["status"]) == ("about:blank", "I'm a Teapot", 418)


async def test_a_bug_is_a_500_without_internals_that_the_log_can_be_searched_for(
    site: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await site.get("/fail/bug", headers={"x-request-id": "find-me"})
    assert problem(answer)["type"] == "/api/v1/problems/internal"
    assert "secret-internal" not in answer.text
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.request_id == "find-me"  # type: ignore[attr-defined]
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError


async def test_an_answer_that_breaks_off_is_cut_and_not_patched_up(
    site: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(httpx.RemoteProtocolError):
        await site.get("/break-off")
    # The server was given the cause itself, and not a second answer to refuse.
    (record,) = caplog.records
    assert record.name == "uvicorn.error"
    assert record.exc_info is not None
    assert record.exc_info[0] is ConnectionResetError
    assert (await site.get("/fail/missing")).status_code == 401


async def test_head_gets_the_headers_of_a_problem_and_no_body(site: httpx.AsyncClient) -> None:
    answer = await site.head("/nowhere")
    assert (answer.status_code, answer.content) == (404, b"")
    assert int(answer.headers["content-length"]) > 100


async def test_the_type_of_a_problem_leads_to_what_it_means(site: httpx.AsyncClient) -> None:
    listed = (await site.get(TYPES_PATH)).json()
    assert [kind["type"] for kind in listed] == [kind.uri for kind in TYPES.values()]
    for kind in listed:
        described = await site.get(kind["type"])
        assert described.json() == kind
        assert (await site.head(kind["type"])).headers["content-length"] == str(len(described.content))
    assert problem(await site.get(TYPES_PATH + "/nonsense"))["status"] == 404
