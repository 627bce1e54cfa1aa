"""Every input gives an identity or an AuthenticationError, and never another error."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auth.authenticator import bearer_token, refuse_credentials_in_url, ticket_of
from auth.claims import identify
from auth.compact import decode
from auth.identity import Identity
from auth.keys import SharedSecret, public_key
from auth.origins import parse
from auth.tokens import Verifier
from realtime.errors import AuthenticationError
from tests.auth.issuer import RULES, SECRET, base64url, compact, good_claims, hs256, secret_token

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_CLAIM_NAMES = ("iss", "aud", "sub", "exp", "iat", "nbf", "jti", "scope", "scp", "typ", "token_use")
_KEY_NAMES = ("kty", "crv", "n", "e", "x", "y", "use", "alg", "key_ops", "kid")
_HEADER_NAMES = ("alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5u", "x5c", "cty", "zip", "enc")
#: No deadline: these tests are about the errors that are raised, and a busy machine takes longer.
unhurried = settings(deadline=None)
_VERIFIER = Verifier(keys=[SharedSecret(SECRET)], rules=RULES)


def outcome(token: str) -> Identity | AuthenticationError:
    try:
        return asyncio.run(_VERIFIER.verify(token))
    except AuthenticationError as error:
        return error


@unhurried
@given(st.text())
@example("\ud800.a.b")
@example("." * 9000)
def test_any_text_is_an_authentication_error(text: str) -> None:
    assert isinstance(outcome(text), AuthenticationError)


@unhurried
@given(st.lists(st.binary(max_size=60), min_size=3, max_size=3))
def test_any_three_parts_are_an_authentication_error(parts: list[bytes]) -> None:
    assert isinstance(outcome(".".join(map(base64url, parts))), AuthenticationError)


@unhurried
@given(st.dictionaries(st.sampled_from(_CLAIM_NAMES) | st.text(max_size=8), _JSON, max_size=8))
def test_any_signed_claims_are_an_identity_or_an_authentication_error(changes: dict[str, Any]) -> None:
    token = compact({"alg": "HS256"}, good_claims() | changes, hs256(SECRET.encode()))
    result = outcome(token)
    if isinstance(result, Identity):
        assert result.user_id.int != 0
        assert result.issuer == RULES.issuer
        assert result.audience in RULES.audiences
        assert result.expires_at - result.issued_at <= RULES.max_lifetime_seconds


@unhurried
@given(st.dictionaries(st.sampled_from(_HEADER_NAMES) | st.text(max_size=8), _JSON, max_size=6))
def test_any_header_is_an_identity_or_an_authentication_error(changes: dict[str, Any]) -> None:
    outcome(compact({"alg": "HS256"} | changes, good_claims(), hs256(SECRET.encode())))


@unhurried
@given(st.data())
def test_a_token_changed_in_any_character_is_refused(data: st.DataObject) -> None:
    token = secret_token(jti="fixed", iat=1_700_000_000, exp=4_000_000_000)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))
    with pytest.raises(AuthenticationError):
        asyncio.run(_VERIFIER.verify(token[:place] + other + token[place + 1 :]))


@unhurried
@given(_JSON)
def test_any_json_as_claims_raises_nothing_but_authentication_errors(claims: Any) -> None:
    with suppress(AuthenticationError):
        named = claims if isinstance(claims, dict) else {"sub": claims}
        identify(named, RULES, now=0.0, fallback_token_id="x", key_fingerprint=b"")


@unhurried
@given(st.text(alphabet='{}[]",:0123456789eE+-.ntfalsru\\ \n', max_size=120))
def test_text_that_resembles_json_raises_nothing_but_authentication_errors(text: str) -> None:
    with suppress(AuthenticationError):
        decode(compact(text, text, lambda _: b"x"))


@unhurried
@given(st.dictionaries(st.sampled_from(_KEY_NAMES), _JSON))
@example({"kty": "RSA", "n": "AQAB", "e": "AQAB"})
@example({"kty": "RSA", "n": "A" * 1_000_000, "e": "AQAB"})
@example({"kty": "RSA", "n": "AA", "e": "AA"})
@example({"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43})
@example({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "kid": ["list"]})
@example({"kty": ["EC"], "crv": {}, "x": 1})
def test_any_published_key_is_a_key_or_none(document: dict[str, Any]) -> None:
    key = public_key(document)
    if key is not None:
        assert key.verifies(b"text", b"signature") is False
        json.dumps(key.key_id)


@unhurried
@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"host"]), st.binary(max_size=80)), max_size=3))
def test_any_headers_are_a_token_none_or_an_authentication_error(headers: list[tuple[bytes, bytes]]) -> None:
    with suppress(AuthenticationError):
        bearer_token(headers)


@unhurried
@given(st.binary(max_size=200))
@example(b"&" * 200)
@example(b"%ff%fe=%00")
def test_any_query_is_passed_or_an_authentication_error(query: bytes) -> None:
    with suppress(AuthenticationError):
        refuse_credentials_in_url(query)
        ticket_of(query)


@unhurried
@given(st.text(max_size=60) | st.text(max_size=40).map(lambda text: f"https://{text}"))
@example("https://[")
@example("https://host:port")
@example("https://host:99999")
def test_any_text_is_an_origin_or_none(text: str) -> None:
    parse(text)
