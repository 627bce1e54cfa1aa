"""A task waits for a connection that it cannot get, with every error of the server."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import pytest

from realtime.database import engine_for
from realtime.feed.connection import DATABASE_ERRORS, KeptConnection


def another_database(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path="/there-is-none"))


def another_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"nobody:wrong@{parts.hostname}:{parts.port}"))


def another_port(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:x@{parts.hostname}:9"))


@pytest.mark.parametrize("wrong", [another_database, another_password, another_port])
async def test_a_refusal_is_an_error_of_the_database(database_url: str, wrong: object) -> None:
    assert callable(wrong)
    engine = engine_for(wrong(database_url), pool_size=1, pooled=False)
    kept = KeptConnection(engine)
    with pytest.raises(DATABASE_ERRORS):
        async with kept.driver():
            raise AssertionError("it was connected")
    await engine.dispose()
