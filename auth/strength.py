"""Whether a shared secret is strong enough to sign tokens with. Pure.

An HS256 secret can be guessed offline by anyone who holds one token, so a weak one hands out every account.
True entropy cannot be measured from one sample; what can be seen is length, alphabet, repetition, sequence
and known words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise
from typing import Final

#: 32 random bytes, which is what HS256 needs (RFC 7518 section 3.2): 64 hexadecimal digits or 43 of base64.
MIN_SECRET_BITS: Final = 256
MIN_SECRET_BYTES: Final = 32

MEND: Final = "Make one with: openssl rand -base64 48"

#: Words of placeholders, tutorials and defaults. A random secret holds one of them once in a million.
_PLACEHOLDERS: Final = (
    "secret", "passw", "change", "default", "example", "guardwire", "development", "placeholder", "insecure",
    "qwerty", "letmein", "256-bit", "256bit", "signing", "replace", "dont-use", "do-not-use", "tutorial",
)  # fmt: skip
_LEAST_REPETITION_SYMBOLS: Final = 8
_MIN_DISTINCT_SYMBOLS: Final = 12
_MAX_SHARE_OF_ONE_SYMBOL: Final = 0.25
_MAX_SHARE_OF_ONE_STEP: Final = 0.3


def weakness(secret: str | bytes) -> str | None:
    """What is wrong with ``secret``, as a sentence that does not quote it; None when nothing is seen."""
    text = _text(secret)
    symbols: str | bytes = secret if text is None else text
    size_bytes = len(secret if isinstance(secret, bytes) else secret.encode("utf-8", "surrogatepass"))
    if size_bytes < MIN_SECRET_BYTES:
        return f"it is {size_bytes} bytes long; {MIN_SECRET_BYTES} random bytes are the least"
    if text is not None and any(word in text.lower() for word in _PLACEHOLDERS):
        return "it holds a word of placeholders and examples"
    if _looks_like_a_key_file(text):
        return "it is a key or certificate of another kind, which may be public"
    bits = _period(symbols) * _bits_per_symbol(text)
    if bits < MIN_SECRET_BITS:
        return f"it holds at most {math.floor(bits)} bits; {MIN_SECRET_BITS} random bits are the least"
    counts = Counter(symbols)
    if len(counts) < _MIN_DISTINCT_SYMBOLS or max(counts.values()) > len(symbols) * _MAX_SHARE_OF_ONE_SYMBOL:
        return "it repeats a few characters"
    if _share_of_commonest_step(symbols) > _MAX_SHARE_OF_ONE_STEP:
        return "it counts up or down like an alphabet"
    return None


def _text(secret: str | bytes) -> str | None:
    if isinstance(secret, str):
        return secret
    try:
        return secret.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _looks_like_a_key_file(text: str | None) -> bool:
    return text is not None and ("-----BEGIN" in text or text.startswith("ssh-") or '"kty"' in text)


def _bits_per_symbol(text: str | None) -> float:
    """The most that one symbol can hold, given which kinds of symbols are seen."""
    if text is None:
        return 8.0
    for pattern, alphabet_size in (
        (r"[0-9]+", 10),
        (r"[0-9a-f]+|[0-9A-F]+", 16),
        (r"[0-9a-z]+|[0-9A-Z]+", 36),
        (r"[0-9A-Za-z+/=_-]+", 64),
    ):
        if re.fullmatch(pattern, text, re.ASCII):
            return math.log2(alphabet_size)
    return math.log2(94)


def _period(symbols: str | bytes) -> int:
    """Length of the shortest prefix that ``symbols`` repeats: a repeated key is as weak as one copy."""
    borders = [0] * len(symbols)
    for end in range(1, len(symbols)):
        length = borders[end - 1]
        while length and symbols[end] != symbols[length]:
            length = borders[length - 1]
        borders[end] = length + (symbols[end] == symbols[length])
    # A few symbols at the end are by chance those of the beginning; eight of them are no chance.
    return len(symbols) - (borders[-1] if borders[-1] >= _LEAST_REPETITION_SYMBOLS else 0)


def _share_of_commonest_step(symbols: str | bytes) -> float:
    codes = [ord(symbol) if isinstance(symbol, str) else symbol for symbol in symbols]
    steps = Counter(later - earlier for earlier, later in pairwise(codes))
    return max(steps.values()) / len(codes)
