"""A key that signs tokens for the demo and the tests: made once, and kept in the data folder.

A production server accepts no token of this key. The composition root makes a `DevelopmentKey` in development mode
alone, and `SharedSecret` refuses the text of the key's file as a production secret.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import jwt

from auth.claims import Rules
from auth.keys import DEVELOPMENT_PREFIX, SharedSecret
from realtime.errors import ConfigurationError

ISSUER: Final = "guardwire-development"
AUDIENCE: Final = "guardwire"
FILE_NAME: Final = "development-key"
DEFAULT_TTL_SECONDS: Final = 3600.0
MAX_TTL_SECONDS: Final = 30 * 86_400.0


_KEY_BYTES: Final = 32


class DevelopmentKey:
    """An HS256 key that issues tokens, with the key source and the rules by which a verifier accepts them."""

    def __init__(self, secret: str) -> None:
        """Take a random ``secret``; raises ConfigurationError for one that is too short."""
        self.source = SharedSecret(secret)
        self.rules = Rules(issuer=ISSUER, audiences=(AUDIENCE,), max_lifetime_seconds=MAX_TTL_SECONDS)
        self._secret = secret
        #: Whether this process made the key and put it into its folder.
        self.is_new = False

    @classmethod
    def open(cls, folder: Path) -> DevelopmentKey:
        """The key of ``folder``, made on first use; raises ConfigurationError when other users can read it.

        Any number of processes may open the key at once, and all get the same one.
        """
        path = folder / FILE_NAME
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_new = not path.exists() and _create(path)
            text = _read(path)
        except OSError as error:
            problem = f"The development key {path} cannot be used: {error.strerror}."
            raise ConfigurationError([problem]) from error
        if not text.startswith(DEVELOPMENT_PREFIX):
            raise ConfigurationError([f"{path} is not a development key. Delete it: a new one is made."])
        key = cls(text.removeprefix(DEVELOPMENT_PREFIX))
        key.is_new = is_new
        return key

    def issue(
        self,
        user_id: UUID,
        *,
        ttl_seconds: float = DEFAULT_TTL_SECONDS,
        scopes: Iterable[str] = (),
        now: float | None = None,
    ) -> str:
        """A token for ``user_id``, issued at ``now`` (unix seconds; the clock's by default).

        Raises ConfigurationError for a lifetime that no verifier accepts.
        """
        if not 0 < ttl_seconds <= MAX_TTL_SECONDS:
            raise ConfigurationError([f"A token must live between 0 and {MAX_TTL_SECONDS:.0f} seconds."])
        issued_at = int(time.time() if now is None else now)
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "iat": issued_at,
            "exp": issued_at + ttl_seconds,
            "jti": str(uuid4()),
        }
        if scope := " ".join(scopes):
            claims["scope"] = scope
        return jwt.encode(claims, self._secret, algorithm="HS256", headers={"typ": "at+jwt"})


def _create(path: Path) -> bool:
    """Write a new key to ``path``; False when another process wrote one first, which then stays."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{DEVELOPMENT_PREFIX}{secrets.token_urlsafe(_KEY_BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # a rename would replace a key that is in use already
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigurationError([f"{path} can be read by others. To fix that: chmod 600 '{path}'"])
        return file.read(256).strip()
