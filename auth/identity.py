"""Who is asking, as a verified token says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from auth.refusals import refusal

#: What a token must carry for the admin endpoints, such as the one that revokes.
ADMIN_SCOPE: Final = "guardwire:admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a token proved; times are unix seconds.

    ``audience`` is the first configured audience that the token names. ``token_id`` is its ``jti``, or a
    digest of what is signed when it has none. ``key_fingerprint`` names the key that signed it
    (`VerifyingKey.fingerprint`). The repr shows whose it is and until when, and nothing of the token.
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
        """``newer``, if an open stream may go on with it; else AuthenticationError(other_user)."""
        same = (newer.user_id, newer.issuer, newer.audience) == (self.user_id, self.issuer, self.audience)
        if not same:
            raise refusal("other_user")
        return newer
