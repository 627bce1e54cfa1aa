"""Bad frames, byte by byte, and the close code of each (RFC 6455; PROTOCOL.md, "Close codes")."""

from __future__ import annotations

import json
from typing import Final

from tests.hostile.wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, close, frame

PROTOCOL, UTF8, TOO_BIG, MALFORMED, LIMITED = 1002, 1007, 1009, 4400, 4029
#: The most that a client may send in one message.
MOST: Final = 16_384
RESYNC: Final = b'{"type":"resync"}'
EURO: Final = "€".encode()


def deep(bracket: bytes, levels: int) -> bytes:
    return bracket * levels


#: The bytes → the close code. Numbers in brackets are sections of RFC 6455.
BAD: Final[dict[str, tuple[bytes, int]]] = {
    # Masking.
    "text without a mask (5.1)": (frame(TEXT, RESYNC, mask=False), PROTOCOL),
    "an empty text without a mask (5.1)": (frame(TEXT, mask=False), PROTOCOL),
    "a ping without a mask (5.1)": (frame(PING, b"x", mask=False), PROTOCOL),
    "a close without a mask (5.1)": (frame(CLOSE, b"\x03\xe8", mask=False), PROTOCOL),
    # Reserved bits: no extension was agreed on.
    **{f"text with reserved bits {bits:03b} (5.2)": (frame(TEXT, RESYNC, reserved=bits), PROTOCOL) for bits in range(1, 8)},
    "a compressed text, as if deflate had been agreed on (7692)": (frame(TEXT, b"\xaaV*J-\xce,V\x02\x00", reserved=4), PROTOCOL),
    "a continuation with a reserved bit (5.2)": (frame(TEXT, b"{", fin=False) + frame(CONT, b"}", reserved=2), PROTOCOL),
    "a ping with a reserved bit (5.2)": (frame(PING, reserved=1), PROTOCOL),
    # Reserved opcodes.
    **{f"opcode {opcode:X} (5.2)": (frame(opcode, b"x"), PROTOCOL) for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)},
    # Lengths.
    "a frame of 16,385 bytes": (frame(TEXT, b" " * (MOST + 1)), TOO_BIG),
    "a frame that claims 65,535 bytes and brings none": (frame(TEXT, length=65_535), TOO_BIG),
    "a frame that claims 2^62 bytes": (frame(TEXT, length=2**62), TOO_BIG),
    "a frame that claims 2^63 - 1 bytes": (frame(TEXT, length=2**63 - 1), TOO_BIG),
    "a length with its highest bit set (5.2)": (frame(TEXT, length=2**64 - 1), TOO_BIG),
    "a message of fragments that are too big together": (
        frame(TEXT, b" " * MOST, fin=False) + frame(CONT, b" "), TOO_BIG
    ),
    "a message of many fragments that are too big together": (
        frame(TEXT, b" " * 1000, fin=False) + frame(CONT, b" " * 1000, fin=False) * 16, TOO_BIG
    ),
    # Control frames.
    "a ping of 126 bytes (5.5)": (frame(PING, b"x" * 126), PROTOCOL),
    "a pong of 126 bytes (5.5)": (frame(PONG, b"x" * 126), PROTOCOL),
    "a close of 126 bytes (5.5)": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), PROTOCOL),
    "a ping that claims 2^62 bytes": (frame(PING, length=2**62), TOO_BIG),
    "a ping in fragments (5.5)": (frame(PING, b"x", fin=False), PROTOCOL),
    "a pong in fragments (5.5)": (frame(PONG, b"x", fin=False), PROTOCOL),
    "a close in fragments (5.5)": (frame(CLOSE, b"\x03\xe8", fin=False), PROTOCOL),
    # Fragments.
    "a continuation of nothing (5.4)": (frame(CONT, RESYNC), PROTOCOL),
    "a continuation of nothing that goes on (5.4)": (frame(CONT, RESYNC, fin=False), PROTOCOL),
    "a text amid a fragmented text (5.4)": (frame(TEXT, b"{", fin=False) + frame(TEXT, RESYNC), PROTOCOL),
    "a binary amid a fragmented text (5.4)": (frame(TEXT, b"{", fin=False) + frame(BINARY, b"x"), PROTOCOL),
    "a continuation after the end (5.4)": (
        frame(TEXT, b'{"type":', fin=False) + frame(CONT, b'"resync"}') + frame(CONT, b"x"), PROTOCOL
    ),
    "a close amid a fragmented text": (frame(TEXT, b"{", fin=False) + close(1000), PROTOCOL),
    # Close frames.
    "a close of one byte (7.1.5)": (frame(CLOSE, b"\x03"), PROTOCOL),
    **{
        f"close code {code} (7.4)": (close(code), PROTOCOL)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
    "a close whose reason is not UTF-8 (7.1.6)": (close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80"), UTF8),
    # Text that is not UTF-8.
    "a lone continuation byte": (frame(TEXT, b"\x80"), UTF8),
    "a byte that is never UTF-8": (frame(TEXT, b'{"type":"\xff"}'), UTF8),
    "an overlong slash": (frame(TEXT, b'"\xc0\xaf"'), UTF8),
    "a surrogate": (frame(TEXT, b'"\xed\xa0\x80"'), UTF8),
    "beyond the last character": (frame(TEXT, b'"\xf4\x90\x80\x80"'), UTF8),
    "a character cut short": (frame(TEXT, b'"' + EURO[:2]), UTF8),
    "a character cut short, in fragments": (frame(TEXT, b'"' + EURO[:1], fin=False) + frame(CONT, EURO[1:2]), UTF8),
    "bad UTF-8 in the second fragment": (frame(TEXT, RESYNC, fin=False) + frame(CONT, b"\xfe\xff"), UTF8),
    "bad UTF-8 where JSON ends": (frame(TEXT, RESYNC + b"\xff"), UTF8),
    # Text in UTF-8 that is no frame of the protocol.
    "a character divided between fragments": (
        frame(TEXT, b'{"type":"' + EURO[:1], fin=False) + frame(CONT, EURO[1:] + b'"}'), MALFORMED
    ),
    "nothing": (frame(TEXT), MALFORMED),
    "nothing, in fragments": (frame(TEXT, fin=False) + frame(CONT), MALFORMED),
    "binary": (frame(BINARY, RESYNC), MALFORMED),
    "binary in fragments": (frame(BINARY, RESYNC, fin=False), MALFORMED),
    "no JSON": (frame(TEXT, b"resync"), MALFORMED),
    "two documents": (frame(TEXT, RESYNC + RESYNC), MALFORMED),
    "JSON cut short": (frame(TEXT, RESYNC[:-1]), MALFORMED),
    "NaN": (frame(TEXT, b'{"type":"hello","resume":{"epoch":NaN,"revision":1}}'), MALFORMED),
    "a byte order mark": (frame(TEXT, b"\xef\xbb\xbf" + RESYNC), MALFORMED),
    "a list": (frame(TEXT, b"[]"), MALFORMED),
    "a number": (frame(TEXT, b"1" * 4000), MALFORMED),
    "null": (frame(TEXT, b"null"), MALFORMED),
    "an object without a type": (frame(TEXT, b"{}"), MALFORMED),
    "a type that is none": (frame(TEXT, b'{"type":"shout"}'), MALFORMED),
    "a type that is the server's": (frame(TEXT, b'{"type":"snapshot"}'), MALFORMED),
    "a type that is no text": (frame(TEXT, b'{"type":1}'), MALFORMED),
    "a type said twice, differently": (frame(TEXT, b'{"type":"resync","type":"shout"}'), MALFORMED),
    "a field that is unknown": (frame(TEXT, b'{"type":"resync","user_id":"x"}'), MALFORMED),
    "a field that names a user": (frame(TEXT, b'{"type":"hello","sub":"x"}'), MALFORMED),
    "a field of the wrong type": (frame(TEXT, b'{"type":"subscribe","channels":"guards"}'), MALFORMED),
    "a channel that is none": (frame(TEXT, b'{"type":"subscribe","channels":["secrets"]}'), MALFORMED),
    "a channel that is none, escaped": (frame(TEXT, b'{"type":"subscribe","channels":["guards\\u0000"]}'), MALFORMED),
    "a required field missing": (frame(TEXT, b'{"type":"subscribe"}'), MALFORMED),
    "a number too big for a revision": (
        frame(TEXT, b'{"type":"hello","resume":{"epoch":1,"revision":1' + b"0" * 400 + b"}}"), MALFORMED
    ),
    "lists, 16,000 deep": (frame(TEXT, deep(b"[", 16_000)), MALFORMED),
    "objects, 3,000 deep": (frame(TEXT, deep(b'{"a":', 3000)), MALFORMED),
    "lists in a known field, 10,000 deep": (
        frame(TEXT, b'{"type":"subscribe","channels":' + deep(b"[", 10_000)), MALFORMED
    ),
    "lists in an unknown field, 7,000 deep and whole": (
        frame(TEXT, b'{"type":"resync","a":' + deep(b"[", 7000) + deep(b"]", 7000) + b"}"), MALFORMED
    ),
    "5,000 unknown fields": (
        frame(TEXT, b"{" + b",".join(b'"a":1' for _ in range(2500)) + b',"type":"resync"}'), MALFORMED
    ),
    # Too much of a good frame.
    "eleven messages at once": (frame(TEXT, RESYNC) * 11, LIMITED),
    "a thousand pings": (frame(PING, b"x" * 125) * 1000, LIMITED),
    "a thousand pongs that nobody asked for": (frame(PONG) * 1000, LIMITED),
    "a thousand empty fragments": (frame(TEXT, fin=False) + frame(CONT, fin=False) * 1000, LIMITED),
    "a thousand fragments of a byte": (frame(TEXT, fin=False) + frame(CONT, b" ", fin=False) * 1000, LIMITED),
    "pings and fragments in turn": (
        frame(TEXT, fin=False) + (frame(CONT, fin=False) + frame(PING)) * 500, LIMITED
    ),
}  # fmt: skip

#: Frames that begin with a complete message.
SAYS_MORE: Final = {"a continuation after the end (5.4)"}

#: Frames that are odd and valid; the stream goes on after them.
GOOD: Final[dict[str, bytes]] = {
    "a ping with 125 bytes": frame(PING, b"x" * 125),
    "a pong that nobody asked for": frame(PONG, b"x"),
    "a message in fragments": frame(TEXT, b'{"type"', fin=False) + frame(CONT, b':"resync"}'),
    "a message in fragments of a byte": frame(TEXT, fin=False)
    + b"".join(frame(CONT, bytes([byte]), fin=False) for byte in RESYNC)
    + frame(CONT),
    "a ping amid a message": frame(TEXT, b'{"type"', fin=False) + frame(PING, b"x") + frame(CONT, b':"resync"}'),
    "a length in more bytes than it needs": frame(TEXT, RESYNC, width=8),
    "a message of 16,384 bytes": frame(TEXT, RESYNC.ljust(MOST)),
    "escaped text": frame(TEXT, b'{"type":"\\u0072esync"}'),
    "a type said twice, alike": frame(TEXT, b'{"type":"resync","type":"resync"}'),
    "the same channel many times": frame(TEXT, json.dumps({"type": "subscribe", "channels": ["guards"] * 1500}).encode()),
}  # fmt: skip
