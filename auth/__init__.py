"""Authentication: tokens, their keys, their revocation, and one-time tickets.

    access.py         makes the parts below for one node
    authenticator.py  request → Identity, for HTTP and for the WebSocket handshake
    tokens.py         Verifier: token → Identity, with a cache of verified tokens
    compact.py        the three parts of a token, decoded before its signature is verified
    claims.py         the rules that a signed token's claims must satisfy
    keys.py           keys, each bound to one algorithm
    jwks.py           the identity provider's public keys; fetch.py reads them over HTTP
    identity.py       the claims of a verified token that the server uses
    revocation.py     tokens and users whose access ended early; revoked_rows.py is its SQL
    tickets.py        one-time tickets for browsers, which cannot send a token in a header
    origins.py        the web pages that may connect
    development.py    a key that signs tokens for the demo and the tests
    refusals.py       every reason to refuse, with its sentence, challenge and close code

Nothing here reads the environment, and no text, repr or log line holds any part of a token.
"""
