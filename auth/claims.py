"""The rules that the claims of a correctly signed token must satisfy (RFC 7519, RFC 9068). Pure."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from auth.identity import Identity
from auth.refusals import refusal
from realtime.errors import ConfigurationError

#: How far an issuer's clock may be ahead of ours. The leeway applies to `iat` and `nbf`, never to `exp`.
MAX_LEEWAY_SECONDS: Final = 10.0
MAX_TOKEN_ID_CHARACTERS: Final = 256

_SECONDS_IN_AN_HOUR: Final = 3600.0
_LATEST_UNIX_SECONDS: Final = 253_402_300_799  # the end of the year 9999
_UUID: Final = re.compile(
    r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE
)
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+", re.ASCII)  # RFC 6749 section 3.3
#: The claims by which Keycloak, Cognito and Simple JWT mark access tokens, and the values that mean one.
_KIND_CLAIMS: Final = ("typ", "token_use", "token_type")
_ACCESS_KINDS: Final = frozenset({"access", "access_token", "at+jwt", "bearer", "jwt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The operator's settings for tokens. Raises ConfigurationError for unsafe ones."""

    issuer: str
    audiences: tuple[str, ...]
    leeway_seconds: float = 5.0
    max_lifetime_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        problems = []
        if not self.issuer:
            problems.append("The issuer of tokens is not set: name the `iss` that tokens carry.")
        if not self.audiences or not all(self.audiences):
            problems.append("The audience of tokens is not set: name at least one `aud` that tokens carry.")
        if not 0 <= self.leeway_seconds <= MAX_LEEWAY_SECONDS:
            problems.append(f"The leeway of tokens must be between 0 and {MAX_LEEWAY_SECONDS:g} seconds.")
        if not 0 < self.max_lifetime_seconds < math.inf:
            problems.append("The longest lifetime of a token must be a positive number of seconds.")
        if problems:
            raise ConfigurationError(problems)


def identify(
    claims: dict[str, Any], rules: Rules, *, now: float, fallback_token_id: str, key_fingerprint: bytes
) -> Identity:
    """The identity in ``claims`` at ``now`` (unix seconds).

    Raises AuthenticationError for the first rule that the claims break.
    """
    _check_kind(claims)
    _check_issuer(claims.get("iss"), rules.issuer)
    audience = _audience(claims.get("aud"), rules.audiences)
    subject, user_id = _subject(claims.get("sub"))
    issued_at, expires_at = _validity(claims, rules, now)
    return Identity(
        user_id=user_id,
        subject=subject,
        issuer=rules.issuer,
        audience=audience,
        token_id=_token_id(claims.get("jti"), fallback_token_id),
        key_fingerprint=key_fingerprint,
        issued_at=issued_at,
        expires_at=expires_at,
        scopes=_scopes(claims),
    )


def _check_kind(claims: dict[str, Any]) -> None:
    for name in _KIND_CLAIMS:
        kind = claims.get(name)
        if kind is not None and (not isinstance(kind, str) or kind.lower() not in _ACCESS_KINDS):
            raise refusal("wrong_type", f"The token's `{name}` says that it is no access token.")


def _check_issuer(value: object, accepted: str) -> None:
    if value is None:
        raise refusal("wrong_issuer", "The token has no `iss`.")
    if value != accepted:
        raise refusal("wrong_issuer", "The token's `iss` is not the issuer that is accepted here.")


def _audience(value: object, accepted: tuple[str, ...]) -> str:
    if value is None:
        raise refusal("wrong_audience", "The token has no `aud`.")
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise refusal("wrong_audience", "The token's `aud` is neither text nor a list of texts.")
    for audience in accepted:
        if audience in named:
            return audience
    raise refusal("wrong_audience", "The token's `aud` names no audience that is accepted here.")


def _subject(value: object) -> tuple[str, UUID]:
    # UUID() also accepts braces, URNs and misplaced dashes, so one user would have several spellings.
    if value is None:
        raise refusal("bad_subject", "The token has no `sub`.")
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise refusal("bad_subject", "The token's `sub` is not the UUID of an account.")
    user_id = UUID(value)
    if user_id.int == 0:  # the nil UUID usually comes from a variable that was never set
        raise refusal("bad_subject", "The token's `sub` is the nil UUID, which is no account.")
    return str(user_id), user_id


def _validity(claims: dict[str, Any], rules: Rules, now: float) -> tuple[float, float]:
    issued_at, expires_at = _date(claims, "iat"), _date(claims, "exp")
    if expires_at <= now:
        raise refusal("expired")
    _check_start("iat", issued_at, rules, now)
    if "nbf" in claims:
        _check_start("nbf", _date(claims, "nbf"), rules, now)
    if expires_at - issued_at > rules.max_lifetime_seconds:
        lifetime, most = _duration(expires_at - issued_at), _duration(rules.max_lifetime_seconds)
        raise refusal(
            "too_long_lived",
            f"The token is valid for {lifetime} (`exp` - `iat`); at most {most} are accepted.",
        )
    return issued_at, expires_at


def _check_start(name: str, start: float, rules: Rules, now: float) -> None:
    if start > now + rules.leeway_seconds:
        ahead, most = _duration(start - now), _duration(rules.leeway_seconds)
        raise refusal(
            "not_yet_valid",
            f"The token's `{name}` is {ahead} ahead of this server's clock; at most {most} are accepted.",
        )


def _duration(seconds: float) -> str:
    """``seconds`` for people, rounded up, so that a length beyond a limit never reads as the limit."""
    if seconds < _SECONDS_IN_AN_HOUR:
        return f"{math.ceil(seconds)} s"
    hours = math.ceil(seconds / _SECONDS_IN_AN_HOUR * 100) / 100
    return f"{hours:.2f}".rstrip("0").rstrip(".") + " h"


def _date(claims: dict[str, Any], name: str) -> float:
    if name not in claims:
        raise refusal("bad_claim", f"The token has no `{name}`.")
    value = claims[name]
    # JSON's 1e999 is parsed as infinity. The comparison is false for infinity and for NaN.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _LATEST_UNIX_SECONDS:
        raise refusal("bad_claim", f"The token's `{name}` is not a number of unix seconds.")
    return float(value)


def _token_id(value: object, fallback: str) -> str:
    if value is None:
        return fallback
    if not is_token_id(value):
        form = f"1 to {MAX_TOKEN_ID_CHARACTERS} printable ASCII characters"
        raise refusal("bad_claim", f"The token's `jti` is not {form}.")
    return str(value)


def is_token_id(value: object) -> bool:
    """Whether ``value`` can name a token: 1 to 256 printable ASCII characters."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_TOKEN_ID_CHARACTERS
        and value.isascii()
        and value.isprintable()
    )


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    claim = "scope" if "scope" in claims else "scp"
    value = claims.get(claim)
    if value is None:
        return _shared(())
    names = value.split() if isinstance(value, str) else value
    if not isinstance(names, list) or not all(_is_scope(name) for name in names):
        problem = "is neither text with names between spaces nor a list of names"
        raise refusal("bad_claim", f"The token's `{claim}` {problem}.")
    return _shared(tuple(names))


def _is_scope(name: object) -> bool:
    return isinstance(name, str) and _SCOPE.fullmatch(name) is not None


@functools.lru_cache(maxsize=64)
def _shared(names: tuple[str, ...]) -> frozenset[str]:
    """One set for all tokens with these scopes: a set of its own would cost each token 216 bytes."""
    return frozenset(names)
