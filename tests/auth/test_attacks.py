"""Tokens that were forged, changed or stolen: each is refused for its own reason, and never quoted."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auth.jwks import Jwks
from auth.keys import SharedSecret
from auth.refusals import Reason, challenge
from auth.tokens import Verifier
from realtime.errors import AuthenticationError
from tests.auth.issuer import (
    AUDIENCE,
    ISSUER,
    RULES,
    SECRET,
    USER,
    Signer,
    base64url,
    compact,
    good_claims,
    hs256,
    secret_token,
)
from tests.auth.jwks_server import JwksServer
from tests.auth.refused import refused

NOW = int(time.time())
#: RFC 6455, 5.5.1, less the code.
LONGEST_CLOSE_REASON_BYTES = 123


async def check(verifier: Verifier, token: str, reason: Reason, claims: Collection[str] = ()) -> None:
    with refused(reason, secret=token, claims=claims):
        await verifier.verify(token)
    assert verifier.cached(token) is None


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param({"exp": ...}, "bad_claim", id="no expiry"),
        pytest.param({"iat": ...}, "bad_claim", id="no time of issue"),
        pytest.param({"iss": ...}, "wrong_issuer", id="no issuer"),
        pytest.param({"aud": ...}, "wrong_audience", id="no audience"),
        pytest.param({"sub": ...}, "bad_subject", id="no subject"),
        pytest.param({"exp": NOW - 1}, "expired", id="expired a second ago"),
        pytest.param({"exp": NOW - 1, "iat": NOW - 400}, "expired", id="expired after a long life"),
        pytest.param({"iat": NOW + 3600}, "not_yet_valid", id="issued in an hour"),
        pytest.param({"iat": NOW + 10**8, "exp": NOW + 10**8 + 60}, "not_yet_valid", id="issued in years"),
        pytest.param({"nbf": NOW + 3600}, "not_yet_valid", id="valid in an hour"),
        pytest.param({"nbf": 0, "iat": NOW + 3600}, "not_yet_valid", id="valid before it is issued"),
        pytest.param({"exp": NOW + 10**9}, "too_long_lived", id="valid for thirty years"),
        pytest.param({"iat": 0}, "too_long_lived", id="issued in 1970"),
        pytest.param({"iss": "https://issuer.example.x"}, "wrong_issuer", id="an issuer that begins so"),
        pytest.param({"iss": f"{ISSUER}/"}, "wrong_issuer", id="an issuer with a slash more"),
        pytest.param({"iss": [ISSUER]}, "wrong_issuer", id="a list of issuers"),
        pytest.param({"iss": None}, "wrong_issuer", id="a null issuer"),
        pytest.param({"aud": "guardwire2"}, "wrong_audience", id="another audience"),
        pytest.param({"aud": "GUARDWIRE"}, "wrong_audience", id="the audience in capitals"),
        pytest.param({"aud": []}, "wrong_audience", id="an empty list of audiences"),
        pytest.param({"aud": ["other"]}, "wrong_audience", id="a list of other audiences"),
        pytest.param({"aud": {AUDIENCE: 1}}, "wrong_audience", id="an object of audiences"),
        pytest.param({"aud": [AUDIENCE, 1]}, "wrong_audience", id="a list with a number in it"),
        pytest.param({"sub": ""}, "bad_subject", id="an empty subject"),
        pytest.param({"sub": "admin"}, "bad_subject", id="a subject that is a name"),
        pytest.param({"sub": 7}, "bad_subject", id="a subject that is a number"),
        pytest.param({"sub": str(USER) + "\n"}, "bad_subject", id="a subject with a line break"),
        pytest.param({"sub": f" {USER}"}, "bad_subject", id="a subject with a space"),
        pytest.param({"sub": f"{{{USER}}}"}, "bad_subject", id="a subject in braces"),
        pytest.param({"sub": f"urn:uuid:{USER}"}, "bad_subject", id="a subject that is a URN"),
        pytest.param({"sub": "0b7f6f0e-7b0e-4f7e-9d0a-2f3c4d5e6f7０"}, "bad_subject", id="a wide digit"),
        pytest.param({"sub": "00000000-0000-0000-0000-000000000000"}, "bad_subject", id="the nil UUID"),
        pytest.param({"sub": [str(USER)]}, "bad_subject", id="a list of subjects"),
        pytest.param({"exp": str(NOW + 60)}, "bad_claim", id="an expiry that is text"),
        pytest.param({"exp": True}, "bad_claim", id="an expiry that is true"),
        pytest.param({"exp": None}, "bad_claim", id="an expiry that is null"),
        pytest.param({"exp": [NOW + 60]}, "bad_claim", id="an expiry that is a list"),
        pytest.param({"exp": -1}, "bad_claim", id="an expiry before 1970"),
        pytest.param({"exp": 10**30}, "bad_claim", id="an expiry after the year 9999"),
        pytest.param({"iat": "now"}, "bad_claim", id="a time of issue that is text"),
        pytest.param({"nbf": None}, "bad_claim", id="a start that is null"),
        pytest.param({"nbf": "soon"}, "bad_claim", id="a start that is text"),
        pytest.param({"jti": 7}, "bad_claim", id="an id that is a number"),
        pytest.param({"jti": ""}, "bad_claim", id="an empty id"),
        pytest.param({"jti": "a" * 257}, "bad_claim", id="an id that is too long"),
        pytest.param({"jti": "a\x00b"}, "bad_claim", id="an id with a null byte"),
        pytest.param({"jti": "\ud800"}, "bad_claim", id="an id that is half a character"),
        pytest.param({"scope": 7}, "bad_claim", id="scopes that are a number"),
        pytest.param({"scope": ["read", None]}, "bad_claim", id="scopes with a null"),
        pytest.param({"scope": ["guardwire:admin read"]}, "bad_claim", id="a scope with a space"),
        pytest.param({"typ": "Refresh"}, "wrong_type", id="a Keycloak refresh token"),
        pytest.param({"typ": "ID"}, "wrong_type", id="a Keycloak ID token"),
        pytest.param({"token_use": "id"}, "wrong_type", id="a Cognito ID token"),
        pytest.param({"token_type": "refresh"}, "wrong_type", id="a Simple JWT refresh token"),
        pytest.param({"token_type": 1}, "wrong_type", id="a kind that is a number"),
    ],
)
async def test_claims_that_break_a_rule_are_refused(
    verifier: Verifier, claims: dict[str, Any], reason: Reason
) -> None:
    await check(verifier, secret_token(**claims), reason, () if reason == "expired" else claims)


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"iat": ...}, "The token has no `iat`."),
        ({"exp": NOW + 30 * 3600, "iat": NOW}, "valid for 30 h (`exp` - `iat`); at most 24 h are accepted."),
        ({"exp": NOW + 86_401, "iat": NOW}, "valid for 24.01 h (`exp` - `iat`); at most 24 h are accepted."),
        ({"iat": NOW * 1000}, "The token's `iat` is not a number of unix seconds."),
        ({"nbf": NOW + 7 * 3600}, "ahead of this server's clock; at most 5 s are accepted."),
        ({"aud": "nobody"}, "The token's `aud` names no audience that is accepted here."),
    ],
)
async def test_a_refusal_says_which_claim_is_wrong_and_what_the_limit_is(
    verifier: Verifier, claims: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await verifier.verify(secret_token(**claims))
    assert str(caught.value).endswith(sentence)
    assert len(str(caught.value)) <= LONGEST_CLOSE_REASON_BYTES
    assert challenge(caught.value).count('"') == 6


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1" * 5000])
@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
async def test_dates_that_are_no_json_number_are_refused(verifier: Verifier, name: str, text: str) -> None:
    claims = json.dumps(good_claims() | {name: "here"}).replace('"here"', text)
    await check(verifier, compact({"alg": "HS256"}, claims, hs256(SECRET.encode())), "malformed")


@pytest.mark.parametrize("text", ["1e999", "-1e999", "1" * 4000])
@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
async def test_dates_after_the_year_9999_are_refused(verifier: Verifier, name: str, text: str) -> None:
    claims = json.dumps(good_claims() | {name: "here"}).replace('"here"', text)
    await check(verifier, compact({"alg": "HS256"}, claims, hs256(SECRET.encode())), "bad_claim", [name])


@pytest.mark.parametrize(
    "kind", ["refresh", "rt+jwt", "id+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt", "", 1]
)
async def test_tokens_of_another_type_are_refused(verifier: Verifier, kind: object) -> None:
    await check(verifier, secret_token({"typ": kind}), "wrong_type", ["typ"])


@pytest.mark.parametrize(
    "algorithm",
    ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "hs256", "RS256", "PS256", None, 256, ["HS256"]],
)
async def test_an_algorithm_that_no_key_has_is_refused(verifier: Verifier, algorithm: object) -> None:
    token = secret_token({"alg": algorithm})
    await check(verifier, token, "wrong_algorithm")
    await check(verifier, token[: token.rindex(".")] + ".AA", "wrong_algorithm")


async def test_a_token_without_a_signature_is_refused(verifier: Verifier) -> None:
    token = secret_token({"alg": "none"})
    for unsigned in (token[: token.rindex(".")], token[: token.rindex(".") + 1]):
        await check(verifier, unsigned, "malformed")


async def test_a_public_key_is_not_taken_for_a_shared_secret(provider: JwksServer) -> None:
    signer = Signer("RS256", "one")
    provider.publish(signer.jwk())
    public = signer.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    jwks = Jwks(url=provider.url)
    for key in (pem, pem.strip(), der, json.dumps(signer.jwk()).encode()):
        forged = compact({"alg": "HS256", "kid": "one"}, good_claims(), hs256(key))
        await check(Verifier(keys=[jwks], rules=RULES), forged, "wrong_algorithm")
        await check(Verifier(keys=[jwks, SharedSecret(SECRET)], rules=RULES), forged, "bad_signature")
    await jwks.close()


async def test_a_key_verifies_by_its_own_algorithm_alone(provider: JwksServer) -> None:
    rsa, curve, edwards = (Signer(name, name) for name in ("RS256", "ES256", "EdDSA"))
    provider.publish(rsa.jwk(), curve.jwk(), edwards.jwk())
    jwks = Jwks(url=provider.url, cooldown_seconds=0.01)
    verifier = Verifier(keys=[jwks], rules=RULES)
    for signer in (rsa, curve, edwards):
        assert (await verifier.verify(signer.token())).user_id == USER
        for other in {"RS256", "ES256", "EdDSA"} - {signer.algorithm}:
            # The header names our key, and another algorithm.
            await check(verifier, signer.token({"alg": other}), "unknown_key")
            # The header names another key and algorithm, and our key signed the token.
            await check(verifier, signer.token({"alg": other, "kid": other}), "bad_signature")
    for other in ("PS256", "RS512", "ES384"):
        await check(verifier, rsa.token({"alg": other}), "wrong_algorithm")
    await jwks.close()


async def test_a_key_that_a_token_brings_along_is_not_used(provider: JwksServer) -> None:
    ours, theirs = Signer("ES256", "ours"), Signer("ES256", "ours")
    provider.publish(ours.jwk())
    elsewhere = JwksServer()
    await elsewhere.start()
    elsewhere.publish(theirs.jwk())
    jwks = Jwks(url=provider.url)
    verifier = Verifier(keys=[jwks], rules=RULES)
    for header in (
        {"jwk": theirs.jwk()},
        {"jku": elsewhere.url},
        {"x5u": elsewhere.url},
        {"x5c": ["MIIB"], "x5t": "AA"},
    ):
        await check(verifier, theirs.token(header), "bad_signature")
        assert (await verifier.verify(ours.token(header))).user_id == USER
    assert elsewhere.requests == 0
    await elsewhere.stop()
    await jwks.close()


@pytest.mark.parametrize(
    "key_id", ["../../../dev/null", "' OR 1=1 --", "/etc/passwd", "http://127.0.0.1/", "\x00", "a" * 256]
)
async def test_a_key_id_is_only_ever_compared(provider: JwksServer, key_id: str) -> None:
    provider.publish(Signer("EdDSA", "one").jwk())
    jwks = Jwks(url=provider.url, cooldown_seconds=0.01)
    await check(Verifier(keys=[jwks], rules=RULES), Signer("EdDSA", key_id).token(), "unknown_key")
    await jwks.close()


@pytest.mark.parametrize("key_id", ["", "a" * 257, 7, ["one"], {"kid": "one"}])
async def test_a_malformed_key_id_is_refused(verifier: Verifier, key_id: object) -> None:
    await check(verifier, secret_token({"kid": key_id}), "malformed")


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": None},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
    ],
)
async def test_extensions_that_must_be_understood_are_refused(
    verifier: Verifier, header: dict[str, object]
) -> None:
    await check(verifier, secret_token(header), "malformed")


async def test_nan_and_infinity_are_refused_in_every_place(verifier: Verifier) -> None:
    claims = json.dumps(good_claims(other=[float("nan")]))
    assert "NaN" in claims
    await check(verifier, compact({"alg": "HS256"}, claims, hs256(SECRET.encode())), "malformed")


async def test_a_name_that_occurs_twice_is_refused(verifier: Verifier) -> None:
    sign = hs256(SECRET.encode())
    claims = json.dumps(good_claims())
    twice = claims[:-1] + ', "sub": "11111111-1111-4111-8111-111111111111"}'
    await check(verifier, compact({"alg": "HS256"}, twice, sign), "malformed")
    await check(verifier, compact('{"alg": "none", "alg": "HS256"}', claims, sign), "malformed")


async def test_a_signature_over_other_claims_is_refused(verifier: Verifier) -> None:
    header, _, signature = secret_token().split(".")
    claims = base64url(json.dumps(good_claims(scope="guardwire:admin")).encode())
    await check(verifier, f"{header}.{claims}.{signature}", "bad_signature")


async def test_a_signature_of_another_secret_or_length_is_refused(verifier: Verifier) -> None:
    await check(verifier, compact({"alg": "HS256"}, good_claims(), hs256(b"")), "bad_signature")
    head = secret_token().rpartition(".")[0]
    signature = hs256(SECRET.encode())(head.encode())
    for bent in (b"\x00", signature[:-1], signature[1:], signature + b"\x00", signature[::-1]):
        await check(verifier, f"{head}.{base64url(bent)}", "bad_signature")


async def test_an_elliptic_signature_of_zeros_is_refused(provider: JwksServer) -> None:
    signer = Signer("ES256", "one")
    provider.publish(signer.jwk())
    jwks = Jwks(url=provider.url)
    verifier = Verifier(keys=[jwks], rules=RULES)
    head = signer.token().rpartition(".")[0]
    for bent in (bytes(64), b"\xff" * 64, bytes(63), b"\x30\x06\x02\x01\x00\x02\x01\x00"):
        await check(verifier, f"{head}.{base64url(bent)}", "bad_signature")
    await jwks.close()


async def test_one_signature_has_one_spelling(verifier: Verifier) -> None:
    token = secret_token()
    await verifier.verify(token)
    # The last character of 32 bytes carries two unused bits.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spelt_otherwise = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
    await check(verifier, spelt_otherwise, "malformed")
    for ending in ("=", "==", "\n", " ", ".", ".AA"):
        await check(verifier, token + ending, "malformed")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c.d.e",
        "Bearer a.b.c",
        "😀.😀.😀",
        "\ud800.a.b",
        "a.b.ç",
        "null",
        "e30.e30.",
        "A.A.A",
    ],
)
async def test_text_that_is_no_token_is_refused(verifier: Verifier, text: str) -> None:
    await check(verifier, text, "malformed")


@pytest.mark.parametrize(
    "part", ["[]", "7", "null", '"text"', "{", "x", "{}x", "{'a': 1}", "\ufeff{}", "\ud800", "[" * 2000]
)
async def test_parts_that_are_no_json_object_are_refused(verifier: Verifier, part: str) -> None:
    sign = hs256(SECRET.encode())
    await check(verifier, compact({"alg": "HS256"}, part, sign), "malformed")
    await check(verifier, compact(part, good_claims(), sign), "malformed")


async def test_a_token_longer_than_eight_kilobytes_is_refused_before_it_is_read() -> None:
    class Silent:
        """A source of keys that fails the test when it is used."""

        algorithms = frozenset({"HS256"})

        def find(self, algorithm: str, key_id: str | None) -> list[Any]:
            raise AssertionError("the token was parsed")

        def holds(self, fingerprint: bytes) -> bool:
            raise AssertionError("the token was parsed")

        def withdrawals(self) -> int:
            return 0

        async def fetch_again(self) -> None:
            raise AssertionError("the token was parsed")

    verifier = Verifier(keys=[Silent()], rules=RULES)
    await check(verifier, secret_token(padding="x" * 6100), "malformed")
    with pytest.raises(AssertionError, match="the token was parsed"):
        await verifier.verify(secret_token(padding="x" * 5500))
