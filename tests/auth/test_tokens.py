"""The verifier: the identity behind a valid token, and the cache of verified tokens."""

from __future__ import annotations

import base64
import string
import time
from typing import Any
from uuid import UUID

import pytest

from auth.identity import Identity
from auth.jwks import Jwks
from auth.keys import SharedSecret
from auth.tokens import Rules, Verifier, token_id_of
from realtime.errors import ConfigurationError
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

BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
#: The order n of the group that P-256 signs in (FIPS 186-5).
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Clock:
    """Unix seconds that a test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def verifier_with(clock: Clock, *, rules: Rules = RULES, capacity: int = 100) -> Verifier:
    return Verifier(keys=[SharedSecret(SECRET)], rules=rules, clock=clock, capacity=capacity)


async def test_an_honest_token_proves_its_user(verifier: Verifier) -> None:
    claims = good_claims(jti="login-7", scope="read guardwire:admin")
    identity = await verifier.verify(compact({"alg": "HS256"}, claims, hs256(SECRET.encode())))
    assert identity == Identity(
        user_id=USER,
        subject=str(USER),
        issuer=ISSUER,
        audience=AUDIENCE,
        token_id="login-7",
        key_fingerprint=SharedSecret(SECRET).find("HS256", None)[0].fingerprint,
        issued_at=claims["iat"],
        expires_at=claims["exp"],
        scopes=frozenset({"read", "guardwire:admin"}),
    )


async def test_a_token_without_an_id_is_known_by_its_digest(verifier: Verifier) -> None:
    token = secret_token()
    identity = await verifier.verify(token)
    assert identity.token_id == token_id_of(token)
    assert identity.token_id not in token


def twin_of(token: str) -> str:
    """The same ES256 token under its other valid signature, (r, n - s)."""
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    mirrored = P256_ORDER - int.from_bytes(raw[32:], "big")
    return f"{signed}.{base64url(raw[:32] + mirrored.to_bytes(32, 'big'))}"


async def test_a_revoked_token_is_refused_under_its_other_signature_too(
    provider: JwksServer, jwks: Jwks, signer: Signer
) -> None:
    provider.publish(signer.jwk())
    revoked: set[str] = set()
    verifier = Verifier(keys=[jwks], rules=RULES, is_revoked=lambda identity: identity.token_id in revoked)
    token = signer.token()
    twin = twin_of(token)
    assert twin != token
    identity = await verifier.verify(token)
    assert identity == await verifier.verify(twin)
    revoked.add(identity.token_id)
    for spelling in (token, twin):
        assert verifier.cached(spelling) is None
        with refused("revoked", secret=spelling):
            await verifier.verify(spelling)


async def test_another_signature_of_a_known_token_is_verified_again(verifier: Verifier) -> None:
    token = secret_token()
    await verifier.verify(token)
    forged = f"{token.rpartition('.')[0]}.{base64url(bytes(32))}"
    assert verifier.cached(forged) is None
    with refused("bad_signature", secret=forged):
        await verifier.verify(forged)


@pytest.mark.parametrize("ending", ["=", "==", "\n", " ", ".", "%3D"])
async def test_a_token_has_one_spelling(verifier: Verifier, ending: str) -> None:
    token = secret_token()
    await verifier.verify(token)
    respelt = [token + ending, token.replace(".", ending + ".", 1)]
    # An HS256 signature is 32 bytes in 43 characters, so the last character has two unused bits.
    last = BASE64URL.index(token[-1])
    respelt += [token[:-1] + BASE64URL[last ^ bits] for bits in (1, 2, 3)]
    for spelling in respelt:
        assert verifier.cached(spelling) is None
        with refused("malformed", secret=spelling):
            await verifier.verify(spelling)


@pytest.mark.parametrize(
    "spelling", [str(USER).upper(), USER.hex, USER.hex.upper()], ids=["upper case", "without dashes", "both"]
)
async def test_a_subject_is_made_canonical(verifier: Verifier, spelling: str) -> None:
    identity = await verifier.verify(secret_token(sub=spelling))
    assert (identity.user_id, identity.subject) == (USER, str(USER))


@pytest.mark.parametrize(
    ("aud", "audience"),
    [
        ("guardwire", "guardwire"),
        ("dashboard", "dashboard"),
        (["other", "dashboard"], "dashboard"),
        (["dashboard", "guardwire"], "guardwire"),
    ],
)
async def test_one_configured_audience_among_the_tokens_suffices(
    verifier: Verifier, aud: object, audience: str
) -> None:
    assert (await verifier.verify(secret_token(aud=aud))).audience == audience


@pytest.mark.parametrize("kind", [..., "JWT", "jwt", "at+jwt", "application/at+JWT"])
async def test_the_types_of_access_tokens_are_accepted(verifier: Verifier, kind: object) -> None:
    assert (await verifier.verify(secret_token({"typ": kind}))).user_id == USER


@pytest.mark.parametrize(
    "claims",
    [{"scope": "a b"}, {"scp": "a b"}, {"scp": ["a", "b"]}, {"scope": ["b", "a"]}, {"scope": " a  b"}],
)
async def test_scopes_are_read_as_issuers_write_them(verifier: Verifier, claims: dict[str, Any]) -> None:
    assert (await verifier.verify(secret_token(**claims))).scopes == {"a", "b"}


async def test_dates_may_have_fractions(verifier: Verifier) -> None:
    now = time.time()
    identity = await verifier.verify(secret_token(iat=now - 0.25, exp=now + 60.75, nbf=now - 0.125))
    assert (identity.issued_at, identity.expires_at) == (now - 0.25, now + 60.75)


async def test_an_issuer_whose_clock_is_a_little_ahead_is_understood() -> None:
    clock = Clock()
    token = secret_token(iat=clock.now + 4.9, nbf=clock.now + 4.9, exp=clock.now + 60)
    assert (await verifier_with(clock).verify(token)).user_id == USER
    clock.now -= 0.2
    with refused("not_yet_valid", secret=token, claims=["iat"]):
        await verifier_with(clock).verify(token)


async def test_an_issuer_whose_clock_is_behind_is_understood_and_its_tokens_end_by_ours() -> None:
    clock = Clock()
    behind = clock.now - 50
    token = secret_token(iat=behind, nbf=behind, exp=behind + 60)
    assert (await verifier_with(clock).verify(token)).expires_at == behind + 60
    clock.now += 10
    with refused("expired", secret=token):
        await verifier_with(clock).verify(token)


async def test_an_expiry_is_exact_and_gets_no_leeway() -> None:
    clock = Clock()
    token = secret_token(iat=clock.now - 10, exp=clock.now + 10)
    clock.now += 9.999
    assert (await verifier_with(clock).verify(token)).user_id == USER
    clock.now += 0.001
    with refused("expired", secret=token):
        await verifier_with(clock).verify(token)


async def test_a_known_token_is_recognised_at_once(verifier: Verifier) -> None:
    token = secret_token()
    assert verifier.cached(token) is None
    identity = await verifier.verify(token)
    assert verifier.cached(token) is identity
    assert await verifier.verify(token) is identity


async def test_a_known_token_is_forgotten_the_moment_it_expires() -> None:
    clock = Clock()
    verifier = verifier_with(clock)
    token = secret_token(exp=clock.now + 30)
    await verifier.verify(token)
    clock.now += 30
    assert verifier.cached(token) is None
    with refused("expired", secret=token):
        await verifier.verify(token)


async def test_a_known_token_that_is_revoked_is_refused_from_then_on() -> None:
    revoked: set[str] = set()
    verifier = Verifier(
        keys=[SharedSecret(SECRET)], rules=RULES, is_revoked=lambda identity: identity.token_id in revoked
    )
    token = secret_token(jti="stolen")
    await verifier.verify(token)
    revoked.add("stolen")
    assert verifier.cached(token) is None
    with refused("revoked", secret=token):
        await verifier.verify(token)


async def test_the_cache_holds_a_bounded_number_of_tokens_and_keeps_those_in_use() -> None:
    verifier = verifier_with(Clock(), capacity=3)
    tokens = [secret_token(jti=str(number)) for number in range(5)]
    first = await verifier.verify(tokens[0])
    for token in tokens:
        await verifier.verify(token)
        assert verifier.cached(tokens[0]) is first
    assert [verifier.cached(token) is not None for token in tokens] == [True, False, False, True, True]


async def test_refused_tokens_are_not_cached() -> None:
    verifier = verifier_with(Clock(), capacity=3)
    good = secret_token()
    await verifier.verify(good)
    for number in range(20):
        token = compact({"alg": "HS256"}, good_claims(jti=str(number)), hs256(b"someone else's"))
        with refused("bad_signature", secret=token):
            await verifier.verify(token)
    assert verifier.cached(good) is not None


async def test_the_repr_of_an_identity_holds_no_part_of_the_token(verifier: Verifier) -> None:
    token = secret_token(jti="the-name-of-a-token", scope="guardwire:admin")
    identity = await verifier.verify(token)
    assert "the-name-of-a-token" not in repr(identity)
    assert not any(part in repr(identity) for part in token.split("."))
    assert "VerifyingKey object" in repr(SharedSecret(SECRET).find("HS256", None)[0])
    assert SECRET not in repr(vars(verifier))


async def test_an_open_stream_goes_on_only_with_a_token_of_the_same_user_issuer_and_audience(
    verifier: Verifier,
) -> None:
    first = await verifier.verify(secret_token())
    newer = await verifier.verify(secret_token(exp=int(time.time()) + 900))
    assert first.renewed_by(newer) is newer
    for other in (secret_token(sub=str(UUID(int=7))), secret_token(aud="dashboard")):
        with refused("other_user"):
            first.renewed_by(await verifier.verify(other))


async def test_a_scope_is_required_by_name(verifier: Verifier) -> None:
    (await verifier.verify(secret_token(scope="guardwire:admin"))).require_scope("guardwire:admin")
    with refused("scope", claims=["guardwire:admin"]):
        (await verifier.verify(secret_token(scope="guardwire:admins"))).require_scope("guardwire:admin")


def test_a_verifier_without_any_key_cannot_be_made() -> None:
    with pytest.raises(ConfigurationError, match="neither a secret nor a JWKS"):
        Verifier(keys=[], rules=RULES)


def test_rules_that_could_not_be_safe_are_refused_with_all_their_faults() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Rules(issuer="", audiences=(), leeway_seconds=11, max_lifetime_seconds=float("inf"))
    assert len(caught.value.problems) == 4
    with pytest.raises(ConfigurationError, match="audience"):
        Rules(issuer="x", audiences=("guardwire", ""))
