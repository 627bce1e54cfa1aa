"""A refused token: on every way in the answer names the problem, and holds nothing of the token."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.auth.issuer import SECRET, secret_token
from tests.end_to_end.production_node import bearer, serving_with, stream


def two_hours_too_long() -> dict[str, Any]:
    now = int(time.time())
    return {"iat": now, "exp": now + 26 * 3600}


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"iat": ...}, "The token has no `iat`."),
        (two_hours_too_long, "The token is valid for 26 h (`exp` - `iat`); at most 24 h are accepted."),
        ({"aud": "another"}, "The token's `aud` names no audience that is accepted here."),
        ({"sub": "admin"}, "The token's `sub` is not the UUID of an account."),
    ],
    ids=["no iat", "too long", "another audience", "no account"],
)
async def test_the_claim_and_the_limit_are_named(migrated_url: str, claims: Any, sentence: str) -> None:
    token = secret_token(**(claims() if callable(claims) else claims))
    async with serving_with(migrated_url, "", jwt_secret=SECRET) as client, asyncio.timeout(30):
        answer = await client.get("/api/v1/state", headers=bearer(token))
        assert (answer.status_code, answer.json()["detail"]) == (401, sentence)
        assert sentence in answer.headers["www-authenticate"]
        with pytest.raises(InvalidStatus) as refused:
            await stream(client, token)
        assert json.loads(refused.value.response.body or b"")["detail"] == sentence
        async with stream(client) as browser:
            await browser.send(json.dumps({"type": "hello", "token": token}))
            with pytest.raises(ConnectionClosed) as closed:
                await browser.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, sentence)
        async with stream(client, secret_token()) as held:
            await held.send(json.dumps({"type": "auth", "token": token}))
            while (frame := json.loads(await held.recv()))["type"] != "error":
                pass
            assert (frame["code"], frame["message"]) == ("unauthenticated", sentence)
