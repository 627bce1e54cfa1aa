"""The identity of a caller, as a verified token states it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from auth.refusals import refusal

#: The scope that the admin endpoints require, such as the one that revokes.
ADMIN_SCOPE: Final = "guardwire:admin"
#: The scope that acknowledging, snoozing and attending require.
ACK_SCOPE: Final = "guards:ack"
#: The scope that arming, endpoints and the policy of escalation require.
MANAGE_SCOPE: Final = "guards:manage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The claims of a verified token that the server uses; times are unix seconds.

    ``audience`` is the first configured audience that the token names. ``token_id`` is the token's ``jti``, or
    without one the digest of its signed part. ``key_fingerprint`` names the key that signed the token
    (`VerifyingKey.fingerprint`). The repr shows the user and the expiry, and nothing else of the token.
    """

    user_id: UUID
    subject: str = field(repr=False)
    issuer: str = field(repr=False)
    audience: str = field(repr=False)
    token_id: str = field(repr=False)
    key_fingerprint: bytes = field(repr=False)
    issued_at: float = field(repr=False)
    expires_at: float
    scopes: frozenset[str] = field(default=frozenset(), repr=False)

    def require_scope(self, scope: str) -> None:
        """Raise AuthenticationError(scope) unless the token carries ``scope``."""
        if scope not in self.scopes:
            raise refusal("scope", f"The token does not carry the scope `{scope}`.")

    def renewed_by(self, newer: Identity) -> Identity:
        """``newer``, when an open stream may go on with it; raises AuthenticationError(other_user) if not."""
        same = (newer.user_id, newer.issuer, newer.audience) == (self.user_id, self.issuer, self.audience)
        if not same:
            raise refusal("other_user")
        return newer
