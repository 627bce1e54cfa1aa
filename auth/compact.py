"""A token's three parts, decoded strictly before the signature is verified (RFC 7515, RFC 8725).

Pure and total: every text gives either a `Compact` or an AuthenticationError.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, Never

from auth.refusals import refusal

#: Longer tokens are refused before they are decoded.
MAX_TOKEN_BYTES: Final = 8192
MAX_KEY_ID_CHARACTERS: Final = 256
#: An absent `typ` is accepted too. Most issuers give their refresh, ID and logout tokens another one.
ACCESS_TOKEN_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})

_SHAPE: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Compact:
    """A decoded token: its claims, and the parts by which its signature is verified."""

    algorithm: str
    key_id: str | None
    claims: dict[str, Any] = field(repr=False)
    signed_bytes: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def decode(token: str) -> Compact:
    """The parts of ``token``, or AuthenticationError (malformed, wrong_type, wrong_algorithm).

    The decoder reads only ``alg``, ``kid``, ``typ``, ``crit`` and ``b64`` of the header. Keys that a token
    brings along (``jwk``, ``jku``, ``x5c``, ``x5u``) prove nothing: anybody could put a key there.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise refusal("malformed")
    match = _SHAPE.fullmatch(token)
    if match is None:
        raise refusal("malformed")
    header = _object(_bytes(match[1]))
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise refusal("wrong_algorithm")
    if "crit" in header or "b64" in header:  # both demand an extension, and this decoder has none
        raise refusal("malformed")
    _check_type(header.get("typ"))
    signed_bytes = token[: match.end(2)].encode("ascii")
    return Compact(algorithm, _key_id(header), _object(_bytes(match[2])), signed_bytes, _bytes(match[3]))


def _check_type(value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str) or value.lower() not in ACCESS_TOKEN_TYPES:
        raise refusal("wrong_type", "The `typ` in the token's header says that it is no access token.")


def _key_id(header: dict[str, Any]) -> str | None:
    key_id = header.get("kid")
    if key_id is None:
        return None
    if not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_KEY_ID_CHARACTERS:
        raise refusal("malformed")
    return key_id


def _bytes(text: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise refusal("malformed") from None
    # Unused low bits could be anything: without this check one signature would have several spellings.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode("ascii"):
        raise refusal("malformed")
    return data


def _object(data: bytes) -> dict[str, Any]:
    # The cause is dropped on purpose: a JSON or UTF-8 error quotes what it read.
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise refusal("malformed") from None
    if not isinstance(value, dict):
        raise refusal("malformed")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):  # parsers differ in which of two equal names they keep, and so in the user
        raise ValueError("a name occurs twice")
    return members


def _no_constant(_: str) -> Never:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
