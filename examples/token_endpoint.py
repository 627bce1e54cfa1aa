"""A path that gives tokens to the dashboard, for people who are signed in to your own site.

Run it behind the same proxy as Guardwire, and set GUARDWIRE_TOKEN_URL=/session/token on each node:

    GUARDWIRE_JWT_SECRET=… GUARDWIRE_JWT_ISSUER=https://id.example GUARDWIRE_JWT_AUDIENCE=guardwire \
        python examples/token_endpoint.py 8001
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: The dashboard asks again a minute before a token ends.
TOKEN_SECONDS = 600


def account_of(cookies: str) -> str | None:
    """The UUID of the account that a session may see; None for no session. Put your own look-up here."""
    sessions = dict(item.split("=", 1) for item in os.environ.get("SESSIONS", "").split() if "=" in item)
    found = dict(cookie.strip().partition("=")[::2] for cookie in cookies.split(";"))
    return sessions.get(found.get("session", ""))


def token_for(account: str) -> str:
    """A token that a node accepts: signed with the first secret of GUARDWIRE_JWT_SECRET."""
    now = int(time.time())
    claims = {
        "sub": account,
        "iss": os.environ["GUARDWIRE_JWT_ISSUER"],
        "aud": os.environ["GUARDWIRE_JWT_AUDIENCE"],
        "iat": now,
        "exp": now + TOKEN_SECONDS,
    }
    signed = encoded({"alg": "HS256", "typ": "JWT"}) + b"." + encoded(claims)
    secret = os.environ["GUARDWIRE_JWT_SECRET"].partition(",")[0].encode()
    signature = hmac.new(secret, signed, hashlib.sha256).digest()
    return b".".join((signed, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()


def encoded(part: dict[str, object]) -> bytes:
    """JSON in base64url, as a JWT has it."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")


class Endpoint(BaseHTTPRequestHandler):
    """Answers 200 with `{"token": …}`, or 401 where nobody is signed in. Other sites cannot read the answer."""

    def do_GET(self) -> None:
        """Look at the session's cookie, which only a browser of this site sends."""
        account = account_of(self.headers.get("Cookie", ""))
        body = b"" if account is None else json.dumps({"token": token_for(account)}).encode()
        self.send_response(200 if body else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Endpoint).serve_forever()
