"""Every reason to refuse a caller, with its sentence, its HTTP challenge and its WebSocket close code.

`AuthenticationError.status` alone decides the HTTP status of a reason.
"""

from __future__ import annotations

from typing import Final, Literal

from guardwire.errors import CloseCode
from realtime.errors import AuthenticationError

Reason = Literal[
    "missing",
    "malformed",
    "in_url",
    "wrong_type",
    "wrong_algorithm",
    "unknown_key",
    "bad_signature",
    "wrong_issuer",
    "wrong_audience",
    "bad_subject",
    "bad_claim",
    "not_yet_valid",
    "expired",
    "too_long_lived",
    "bad_ticket",
    "other_user",
    "revoked",
    "origin",
    "scope",
    "unavailable",
]

#: The sentence that the caller gets, unless `refusal` is given a more exact one. No sentence repeats text of the
#: request, because a credential may stand anywhere in it. Names of claims and lengths of time are allowed.
SENTENCES: Final[dict[Reason, str]] = {
    "missing": "A bearer token is required in the Authorization header.",
    "malformed": "The credentials are not one well-formed bearer token.",
    "in_url": "Credentials in a URL end up in logs: send the token in the Authorization header instead.",
    "wrong_type": "The token is not an access token.",
    "wrong_algorithm": "The token is signed with an algorithm that is not accepted here.",
    "unknown_key": "The token is signed with a key that the issuer does not publish.",
    "bad_signature": "The token's signature does not match.",
    "wrong_issuer": "The token is from another issuer.",
    "wrong_audience": "The token is meant for another audience.",
    "bad_subject": "The token's subject is not the UUID of an account.",
    "bad_claim": "A claim of the token is missing or has no form that is accepted here.",
    "not_yet_valid": "The token is not valid yet.",
    "expired": "The token has expired.",
    "too_long_lived": "The token is valid for longer than is accepted here.",
    "bad_ticket": "The ticket is unknown, used or expired.",
    "other_user": "The new token is not for the same user, issuer and audience.",
    "revoked": "Access has been revoked.",
    "origin": "Pages of this origin may not connect.",
    "scope": "The token does not carry the scope that this needs.",
    "unavailable": "The credentials cannot be checked right now; try again shortly.",
}


def refusal(reason: Reason, sentence: str | None = None) -> AuthenticationError:
    """The error to raise for ``reason``, with ``sentence`` in place of the reason's usual one.

    A sentence is ASCII without double quotes and backslashes, because `challenge` quotes it, and at most 123
    bytes long, so that it fits a close frame.
    """
    return AuthenticationError(reason, sentence or SENTENCES[reason])


def challenge(error: AuthenticationError) -> str:
    """The ``WWW-Authenticate`` value that goes with ``error`` (RFC 6750 section 3)."""
    if error.reason == "missing":  # RFC 6750: a request without credentials gets no error code
        return 'Bearer realm="guardwire"'
    if error.reason == "in_url":
        code = "invalid_request"
    else:
        code = "insufficient_scope" if error.reason == "scope" else "invalid_token"
    return f'Bearer realm="guardwire", error="{code}", error_description="{error}"'


def close_code(error: AuthenticationError) -> CloseCode:
    """The close code of a stream that ends because of ``error``."""
    if error.status == 503:
        return CloseCode.OVERLOADED
    if error.status == 403 or error.reason == "other_user":
        return CloseCode.FORBIDDEN
    return CloseCode.TOKEN_EXPIRED if error.reason == "expired" else CloseCode.UNAUTHENTICATED
