"""A credential may stand in one Authorization header, and in no URL."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from starlette.types import Scope

from auth.authenticator import CREDENTIAL_PARAMETERS, Authenticator, bearer_token
from auth.refusals import SENTENCES, challenge, close_code, refusal
from auth.tokens import Verifier
from guardwire.errors import CloseCode
from tests.auth.issuer import USER, secret_token
from tests.auth.refused import refused


def scope(*values: str, query: str = "", kind: str = "http") -> Scope:
    headers = [
        (b"host", b"guardwire.example"),
        *((b"authorization", value.encode("latin-1")) for value in values),
    ]
    return {"type": kind, "path": "/ws", "query_string": query.encode(), "headers": headers}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_may_be_written_in_any_case(scheme: str) -> None:
    assert bearer_token(scope(f"{scheme} abc.def.ghi")["headers"]) == "abc.def.ghi"


def test_spaces_around_the_token_do_not_matter() -> None:
    assert bearer_token(scope(" Bearer   abc.def.ghi  ")["headers"]) == "abc.def.ghi"


def test_a_request_without_the_header_has_no_token() -> None:
    assert bearer_token(scope()["headers"]) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "abc.def.ghi",
        "Basic dXNlcjpwYXNzd29yZA==",
        "Token abc.def.ghi",
        "Bearer: abc.def.ghi",
        "Bearer abc.def.ghi, Bearer jkl.mno.pqr",
        "Bearer abc.def.ghi jkl.mno.pqr",
        "Bearer\tabc.def.ghi",
        "Bearer abc.def.ghi,jkl.mno.pqr",
        "Bearer abc.dëf.ghi",
    ],
)
def test_a_header_that_is_not_one_bearer_token_is_refused(value: str) -> None:
    with refused("malformed", secret=value):
        bearer_token(scope(value)["headers"])


def test_two_authorization_headers_are_refused_even_when_they_are_alike() -> None:
    for second in ("Bearer abc.def.ghi", "Bearer other", "Basic x"):
        with refused("malformed"):
            bearer_token(scope("Bearer abc.def.ghi", second)["headers"])


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_one_verifier_serves_requests_and_handshakes(verifier: Verifier, kind: str) -> None:
    authenticator = Authenticator(verifier=verifier)
    token = secret_token()
    identity = await authenticator.from_headers(scope(f"Bearer {token}", kind=kind))
    assert identity is not None
    assert identity is await verifier.verify(token)
    assert identity is await authenticator.require(
        scope(f"bearer {token}", query="channels=guards", kind=kind)
    )


async def test_a_request_without_credentials_has_no_identity_or_is_refused(verifier: Verifier) -> None:
    authenticator = Authenticator(verifier=verifier)
    assert await authenticator.from_headers(scope(query="channels=guards&since=1:2")) is None
    with refused("missing"):
        await authenticator.require(scope())


@pytest.mark.parametrize("name", sorted(CREDENTIAL_PARAMETERS))
async def test_a_credential_in_the_url_is_refused_even_beside_a_good_header(
    verifier: Verifier, name: str
) -> None:
    authenticator = Authenticator(verifier=verifier)
    token = secret_token()
    escaped = "".join(f"%{ord(character):02x}" for character in name)
    for query in (
        f"{name}={token}",
        f"channels=guards&{name.upper()}={token}",
        f"{escaped}={token}",
        f"{name}=",
        name,
        f"{quote(' ' + name)}=x",
        f"a=1&a=2&{name}={token}",
    ):
        for headers in ((), (f"Bearer {token}",)):
            with refused("in_url", secret=token):
                await authenticator.from_headers(scope(*headers, query=query))


async def test_harmless_parameters_that_sound_alike_are_passed(verifier: Verifier) -> None:
    authenticator = Authenticator(verifier=verifier)
    for query in ("mt5_ticket=7", "tokens=1", "symbol=TOKEN", "since=1:token", "channels=token"):
        assert (await authenticator.require(scope(f"Bearer {secret_token()}", query=query))).user_id == USER


async def test_a_query_of_thousands_of_parameters_is_refused(verifier: Verifier) -> None:
    with refused("malformed"):
        await Authenticator(verifier=verifier).from_headers(scope(query="a=1&" * 5000))


def test_every_refusal_has_a_sentence_a_status_a_challenge_and_a_close_code() -> None:
    for reason, sentence in SENTENCES.items():
        error = refusal(reason)
        assert str(error) == sentence
        assert error.status in (401, 403, 503)
        assert challenge(error).startswith('Bearer realm="guardwire"')
        assert '"' not in sentence
        assert sentence.isascii()
        assert isinstance(close_code(error), CloseCode)


def test_challenges_carry_the_codes_that_oauth_clients_look_for() -> None:
    assert challenge(refusal("missing")) == 'Bearer realm="guardwire"'
    assert challenge(refusal("expired")) == (
        'Bearer realm="guardwire", error="invalid_token", error_description="The token has expired."'
    )
    assert 'error="invalid_request"' in challenge(refusal("in_url"))
    assert 'error="insufficient_scope"' in challenge(refusal("scope"))


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("expired", 401, 4001),
        ("bad_signature", 401, 4401),
        ("in_url", 401, 4401),
        ("other_user", 401, 4403),
        ("revoked", 403, 4403),
        ("origin", 403, 4403),
        ("scope", 403, 4403),
        ("unavailable", 503, 1013),
    ],
)
def test_a_refusal_means_the_same_over_http_and_on_a_stream(reason: str, status: int, code: int) -> None:
    error = next(refusal(name) for name in SENTENCES if name == reason)
    assert (error.status, close_code(error)) == (status, code)
