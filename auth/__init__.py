"""Who is asking: tokens, their keys, their revocation, and one-time tickets.

    bearer.py         the token of a request's headers, and none in its URL
    authenticator.py  request → Identity, for HTTP and for the WebSocket handshake
    tokens.py         Verifier: token → Identity; remembered.py is its memory
    compact.py        the three parts of a token, decoded and not yet believed
    claims.py         the rules that a signed token's claims must satisfy
    keys.py           keys bound to one algorithm each; strength.py refuses weak secrets
    jwks.py           the identity provider's public keys; fetch.py reads them
    identity.py       what a verified token says
    revocation.py     tokens and users whose access ended early; revoked_rows.py is its SQL
    tickets.py        one-time stand-ins for a token, for browsers
    origins.py        which web pages may connect
    development.py    a key of one's own for the demo and the tests
    refusals.py       every reason to refuse, its sentence, challenge and close code

Nothing here reads the environment, and no text, repr or log line holds any part of a token.
"""
