"""Every variation of a request's head and of a WebSocket handshake, each with its documented answers.

A variation is bytes and not a request, because most variations are no request. `variations` makes the matrix: four good
requests (a page that does not exist, a health check that is answered at once, a POST, a handshake), each changed in one
way at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

#: Stands in every request that one reading of a variation hides inside another; no server may ever read it.
SMUGGLED: Final = "smuggled"
#: More bytes than a head may have.
TOO_LONG: Final = 80_000

#: Statuses in their order; empty for a connection that is cut without an answer.
Answers = tuple[int, ...]


@dataclass(frozen=True)
class Variation:
    """The bytes of one connection, and their documented answers.

    ``pieces`` are sent one after the other with ``pause_seconds`` between them. ``answers`` are all documented ones.
    ``replies_to_head``: the request is HEAD, whose answers have no body. ``waits``: the server must end the connection
    by itself, because the client sends for ever or sends nothing more.
    """

    name: str
    pieces: tuple[bytes, ...]
    answers: frozenset[Answers]
    pause_seconds: float = 0.0
    replies_to_head: bool = False
    waits: bool = False

    @property
    def takes_time(self) -> bool:
        """Whether the result takes seconds."""
        return self.waits or self.pause_seconds > 0


@dataclass(frozen=True)
class Head:
    """A request in parts, of which each may be nonsense. ``same`` is the status of the unchanged request."""

    kind: str
    same: int
    method: bytes = b"GET"
    target: bytes = b"/nowhere"
    version: bytes = b"HTTP/1.1"
    headers: tuple[tuple[bytes, bytes], ...] = ((b"Host", b"here"),)
    body: bytes = b""

    @property
    def is_handshake(self) -> bool:
        return self.kind == "handshake"

    def without(self, name: bytes) -> Head:
        """A copy without the header ``name``."""
        return replace(self, headers=tuple(each for each in self.headers if each[0] != name))

    def plus(self, *headers: tuple[bytes, bytes], body: bytes = b"") -> Head:
        """A copy with further headers and a body."""
        return replace(self, headers=(*self.headers, *headers), body=self.body + body)

    def instead(self, name: bytes, *values: bytes) -> Head:
        """A copy with the header ``name`` once for each of ``values``, in place of the present one."""
        return self.without(name).plus(*((name, value) for value in values))

    def encoded(self, end: bytes = b"\r\n") -> bytes:
        """The bytes on the wire, with ``end`` after each line."""
        lines = [b" ".join((self.method, self.target, self.version))]
        lines += [name + b": " + value for name, value in self.headers]
        return end.join([*lines, b"", b""]) + self.body


PAGE: Final = Head("page", 404)
HEALTH: Final = Head("health", 200, target=b"/api/v1/trading/health")
POST: Final = Head("post", 401, b"POST", b"/api/v1/tickets").plus((b"Content-Length", b"1"), body=b"x")
HANDSHAKE: Final = Head("handshake", 101, target=b"/ws").plus(
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"Sec-WebSocket-Version", b"13"),
)
BASES: Final = (PAGE, HEALTH, POST, HANDSHAKE)
WITHOUT_BODY: Final = (PAGE, HEALTH, HANDSHAKE)

HIDDEN: Final = f"GET /{SMUGGLED} HTTP/1.1\r\nHost: here\r\n\r\n".encode()
Change = Callable[[Head], Head]


def variations() -> list[Variation]:
    """The whole matrix; each name occurs once."""
    made = [
        *_of_heads(), *_of_targets(), *_of_handshakes(), *_of_bodies(), *_of_lines(), *_of_sizes(),
        *_of_pipelines(), *_of_time(),
    ]  # fmt: skip
    assert len({each.name for each in made}) == len(made)
    return made


def _case(name: str, data: bytes | Head, *answers: int | Answers, to_head: bool = False) -> Variation:
    """One connection that sends ``data`` at once; each of ``answers`` is a status, or several in order."""
    sent = data.encoded() if isinstance(data, Head) else data
    allowed = frozenset((each,) if isinstance(each, int) else each for each in answers)
    return Variation(name, (sent,), allowed, replies_to_head=to_head)


def _each(name: str, change: Change, *answers: int, of: tuple[Head, ...] = BASES) -> Iterator[Variation]:
    """The change to every request of ``of``; without ``answers`` the answer stays that of the unchanged request."""
    for head in of:
        yield _case(f"{head.kind}: {name}", change(head), *(answers or (head.same,)))


def _with(**parts: bytes) -> Change:
    return lambda head: replace(head, **parts)  # type: ignore[arg-type]


def _hosts(*values: bytes) -> Change:
    return lambda head: head.instead(b"Host", *values)


def _offer(protocol: bytes) -> Change:
    return lambda head: head.plus((b"Connection", b"upgrade"), (b"Upgrade", protocol))


# The first line, Host, and the method.

VERSIONS: Final = (
    b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/3", b"HTTP/9.9", b"HTTP/1.", b"HTTP/11", b"http/1.1",
    b"HTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTP/1.1 x", b"HTTP/+1.1", b"",
)  # fmt: skip
BAD_HOSTS: Final = (
    b"", b"a b", b"user@here", b"here/x", b"here?x", b"here#x", b"here:80:80", b"here:x", b"here:9999999",
    b"[::1",
    b"::1", b"[::1]x", b"he\x00re", b"h\xe9re", b"here\x7f", b"<here>", b'"here"', b"here\\x",
    b"here, there{}",
)  # fmt: skip
GOOD_HOSTS: Final = (
    b"HERE",
    b"here:",
    b"here:8000",
    b"[::1]:8000",
    b"127.0.0.1",
    b"a-b.c_d.example",
    b"xn--bcher-kva",
)
BAD_METHODS: Final = (b"get", b"", b"BREW", b"G ET", b"GET\x00", b"G" * 5000, b"\xff", b"PRI")


def _of_heads() -> Iterator[Variation]:
    yield from _each("unchanged", lambda head: head)
    for version in VERSIONS:
        yield from _each(f"version {version!r}", _with(version=version), 400)
    for head in BASES:
        old = replace(head, version=b"HTTP/1.0")
        status = 426 if head.is_handshake else head.same
        yield _case(f"{head.kind}: HTTP/1.0", old, status)
        yield _case(f"{head.kind}: HTTP/1.0 without Host", old.without(b"Host"), status)
        yield _case(f"{head.kind}: HTTP/1.0 with two Hosts", old.plus((b"Host", b"here")), 400)
        yield _case(
            f"{head.kind}: HTTP/1.0 that would be kept alive", old.plus((b"Keep-Alive", b"9")), status
        )
    yield from _each("no Host", lambda head: head.without(b"Host"), 400)
    yield from _each("the same Host twice", lambda head: head.instead(b"Host", b"here", b"here"), 400)
    yield from _each("two Hosts", lambda head: head.instead(b"Host", b"here", b"there"), 400)
    yield from _each("a second Host in other letters", lambda head: head.plus((b"hOST", b"there")), 400)
    for host in BAD_HOSTS:
        yield from _each(f"Host {host!r}", _hosts(host), 400)
    for host in GOOD_HOSTS:
        yield from _each(f"Host {host!r}", _hosts(host))
    for method in BAD_METHODS:
        yield from _each(f"method {method[:9]!r}", _with(method=method), 400)
    for method in (b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PURGE", b"M-SEARCH", b"SOURCE"):
        yield _case(f"health: method {method!r}", replace(HEALTH, method=method), 405)
        yield _case(f"handshake: method {method!r}", replace(HANDSHAKE, method=method), 405)
    yield _case("handshake: method POST", replace(HANDSHAKE, method=b"POST"), 405)
    for head, status in ((HEALTH, 200), (PAGE, 404), (HANDSHAKE, 405)):
        yield _case(f"{head.kind}: method HEAD", replace(head, method=b"HEAD"), status, to_head=True)


def _of_targets() -> Iterator[Variation]:
    for head in BASES:
        absolute = b"http://here" + head.target
        for name, target, *answers in (
            ("absolute", absolute, head.same),
            ("absolute in capitals", b"HTTP://HERE" + head.target, head.same),
            ("absolute of https", absolute.replace(b"http", b"https"), head.same),
            ("absolute of another server", b"http://there" + head.target, 400),
            ("absolute of another port", b"http://here:1" + head.target, 400),
            ("absolute with a user", b"http://user@here" + head.target, 400),
            ("absolute without a server", b"http://" + head.target, 400),
            ("absolute of another scheme", b"ftp://here" + head.target, 400),
            ("absolute of ws", b"ws://here" + head.target, 400),
            ("authority", b"here:443", 400),
            ("asterisk", b"*", 400),
            ("none", b"", 400),
            ("relative", head.target[1:], 400),
            ("with a fragment", head.target + b"#part", 400),
            ("with a space", head.target + b" x", 400),
            ("with a zero", head.target + b"\x00", 400),
            ("with a line feed", head.target + b"\n", 400),
            ("with bytes beyond ASCII", head.target + b"\xc3\xa9", 400),
            ("with an empty query", head.target + b"?", head.same),
        ):
            yield _case(f"{head.kind}: target {name}", replace(head, target=target), *answers)
    yield from _each("CONNECT", lambda head: replace(head, method=b"CONNECT", target=b"here:443"), 400)
    yield _case("page: OPTIONS *", replace(PAGE, method=b"OPTIONS", target=b"*"), 400)
    yield _case("page: absolute without a path", replace(PAGE, target=b"http://here"), 200)
    for target in (
        b"/ws/", b"//ws", b"/WS", b"/ws%00", b"/ws;x", b"/ws/../ws", b"/./ws", b"/", b"/static/client.js",
        b"/api/v1/stream", b"/livez", b"/ws%3fx", b"/%2e%2e/ws", b"/ws//", b"/\\ws",
    ):  # fmt: skip
        yield _case(f"handshake: target {target!r}", replace(HANDSHAKE, target=target), 404)
    for target, *statuses in (
        (b"/%77s", 101), (b"/ws?channels=guards", 101), (b"/ws?since=1:x", 422), (b"/ws?token=x", 401),
    ):  # fmt: skip
        yield _case(f"handshake: target {target!r}", replace(HANDSHAKE, target=target), *statuses)


# The headers of a WebSocket handshake.


def _of_handshakes() -> Iterator[Variation]:
    for name, values, answers in _HANDSHAKE_HEADERS:
        for value in values:
            changed = HANDSHAKE.without(name) if value is None else HANDSHAKE.instead(name, *value)
            yield _case(f"handshake: {name.decode()} {value!r}", changed, *answers)
    yield _case("handshake: nothing but a key", PAGE.plus((b"Sec-WebSocket-Key", b"x")), 404)
    yield _case("health: an Upgrade to WebSocket", HEALTH.plus(*HANDSHAKE.headers[1:]), 404)
    h2c = (
        (b"Connection", b"Upgrade, HTTP2-Settings"),
        (b"Upgrade", b"h2c"),
        (b"HTTP2-Settings", b"AAMAAABk"),
    )
    yield from _each("an offer of h2c", lambda head: head.plus(*h2c), of=(PAGE, HEALTH))
    # The parser assumes that a request with any Upgrade has no body, so the body would be the next request.
    hidden = POST.instead(b"Content-Length", b"%d" % len(HIDDEN)).plus(*h2c)
    yield _case("post: h2c and a body", replace(hidden, body=HIDDEN), 400)
    late = (replace(hidden, body=b"").encoded(), HIDDEN)
    yield Variation("post: h2c and a late body", late, frozenset({(400,)}), pause_seconds=0.5)
    long = POST.instead(b"Content-Length", b"%d" % (20_000 + len(HIDDEN))).plus(*h2c)
    yield _case("post: h2c and a long body", replace(long, body=b"\r\n" * 10_000 + HIDDEN), 400)
    yield _case("page: h2c and another", PAGE.plus(*h2c).encoded() + HEALTH.encoded(), (404, 200))
    for name in (b"TLS/1.0", b"websocketx", b"web socket", b"\xff", b"foo/1"):
        yield from _each(
            f"an offer of {name!r}",
            _offer(name),
            of=(PAGE, HEALTH),
        )
    for name in (b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions", b"Origin"):
        many = tuple((name, b"x" if name != b"Origin" else b"null") for _ in range(300))
        yield _case(f"handshake: {name.decode()} 300 times", HANDSHAKE.plus(*many), 101, 400, 403)


_UPGRADE_REQUIRED: Final = (426,)
_MALFORMED: Final = (400,)
_TAKEN: Final = (101,)
#: A header, values of it (each a tuple of lines, None without the header), and the answer.
_HANDSHAKE_HEADERS: Final[tuple[tuple[bytes, tuple[tuple[bytes, ...] | None, ...], tuple[int, ...]], ...]] = (
    (b"Upgrade", ((b"WebSocket",), (b" websocket ",)), _TAKEN),
    (b"Upgrade", (None, (b"",), (b"websocket, h2c",), (b"h2c, websocket",), (b"h2c",), (b"websocket/13",),
                  (b"websocket", b"websocket"), (b"websocket", b"h2c"), (b"web socket",), (b"websocket;x",)),
     _UPGRADE_REQUIRED),
    (b"Connection", ((b"upgrade",), (b"keep-alive, Upgrade",), (b"Upgrade, close",), (b"keep-alive",
    b"Upgrade"), (b"Upgrade", b"close"), (b"Upgrade,,",), (b"Upgrade, Host",)), _TAKEN),
    (b"Connection", (None, (b"",), (b"close",), (b"keep-alive",), (b"upgraded",)), _UPGRADE_REQUIRED),
    (b"Connection", ((b"Upgrade;x",),), (400, 426)),
    (b"Sec-WebSocket-Key", (None, (b"",), (b"c2hvcnQ=",), (b"*" * 24,), (b"x" * 500,), (b"\xff" * 24,),
                            (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ=="),
                            (b"dGhlIHNhbXBsZSBub25jZQ==,",), (b"dGhlIHNhbXBsZSBub25jZQ",)), _MALFORMED),
    (b"Sec-WebSocket-Version", (None, (b"",), (b"8",), (b"12",), (b"14",), (b"13, 8",), (b"013",), (b"+13",),
                                (b"13.0",), (b"x",), (b"\xff",), (b"9" * 5000,)), _UPGRADE_REQUIRED),
    (b"Sec-WebSocket-Version", ((b"13", b"13"), (b"13", b"8")), _MALFORMED),
    (b"Sec-WebSocket-Protocol", ((b"guardwire.v1",), (b"a, guardwire.v1",), (b"other",)), _TAKEN),
    (b"Sec-WebSocket-Protocol", ((b"@,=",), (b'"',), (b"\xff",)), _MALFORMED),
    (b"Sec-WebSocket-Extensions", ((b"permessage-deflate",), (b"=;,=",)), _TAKEN),
    (b"Origin", ((b"http://here",), (b"http://HERE",)), _TAKEN),
    (b"Origin", ((b"null",), (b"http://there",), (b"\xff",)), (403,)),
    (b"Origin", ((b"http://here", b"http://here"), (b"http://here", b"http://there")), (400, 403)),
    (b"Authorization", ((b"Bearer x.y.z",), (b"Bearer a", b"Bearer b"), (b"\xff",)), (401,)),
    (b"Expect", ((b"100-continue",), (b"something",)), _TAKEN),
)  # fmt: skip


# Bodies, and all ways in which two readers can disagree about the end of one.

BAD_LENGTHS: Final = (
    b"-1", b"+1", b"0x1", b"1,1", b"1, 2", b"1 1", b"1a", b"1.0", b"", b"\xb2", b"9" * 30, b"1\x00",
    b"NaN", b"1;1",
)  # fmt: skip
#: Codings other than the one that the server understands.
BAD_CODINGS: Final = (
    b"chunked, identity", b"identity, chunked", b"identity", b"xchunked", b"chunkedx", b"chunked;q=1",
    b"gzip, chunked",
    b"chunked, chunked", b"\x0bchunked", b"\x00chunked", b"chunked\x00", b'"chunked"', b"", b"chunked,",
    b",chunked", b"chu\tnked", b"trailers",
)  # fmt: skip
BAD_CHUNKS: Final = (
    b"0x1\r\na\r\n0\r\n\r\n", b"-1\r\na\r\n0\r\n\r\n", b"F" * 17 + b"\r\na\r\n", b"1 \r\na\r\n0\r\n\r\n",
    b"1\r\nab\r\n0\r\n\r\n", b"1\na\n0\n\n", b"1\r\na0\r\n\r\n", b"\r\n1\r\na\r\n0\r\n\r\n", b"g\r\n\r\n",
    b"1;\r\na\r\n0\r\n\r\n", b'1;a="\r\n"\r\na\r\n0\r\n\r\n', b"1;a\nb\r\na\r\n0\r\n\r\n",
    b"1\r\na\r\n0\r\nX\r\n\r\n",
    b"+1\r\na\r\n0\r\n\r\n", b"1_0\r\na\r\n0\r\n\r\n", b"01\r\na\r\n0\r\nHost: there\r\n\r\n",
)  # fmt: skip


def _of_bodies() -> Iterator[Variation]:
    length = b"Content-Length"
    for head in WITHOUT_BODY:
        # A handshake must have no body; any other request may have one that its route does not read.
        status = 400 if head.is_handshake else head.same
        for name, changed in (
            ("a body of a byte", head.plus((length, b"1"), body=b"x")),
            ("a body of five bytes that does not come", head.plus((length, b"5"))),
            ("an empty body in chunks", head.plus((b"Transfer-Encoding", b"chunked"), body=b"0\r\n\r\n")),
            ("a body in chunks", head.plus((b"Transfer-Encoding", b"Chunked"), body=b"1\r\na\r\n0\r\n\r\n")),
            ("a body in chunks that does not come", head.plus((b"Transfer-Encoding", b"chunked"))),
            ("a body that is a request", head.plus((length, b"%d" % len(HIDDEN)), body=HIDDEN)),
            ("a body of zeros", head.plus((length, b"00"))),
        ):
            yield _case(f"{head.kind}: {name}", changed, status)
        yield _case(f"{head.kind}: a length of 0", head.plus((length, b"0")), head.same)
        for end in (b"", HIDDEN):
            both = (length, b"%d" % (5 + len(end))), (b"Transfer-Encoding", b"chunked")
            hidden = " and a request behind them" if end else ""
            for order in (both, both[::-1]):
                name = f"{head.kind}: {order[0][0].decode()} and the other{hidden}"
                yield _case(name, head.plus(*order, body=b"0\r\n\r\n" + end), 400)
        for value in BAD_LENGTHS:
            yield _case(f"{head.kind}: length {value[:9]!r}", head.plus((length, value), body=b"a"), 400)
        for first, second in (
            (b"0", b"0"),
            (b"1", b"1"),
            (b"0", b"%d" % len(HIDDEN)),
            (b"%d" % len(HIDDEN), b"0"),
        ):
            twice = head.plus((length, first), (length, second), body=HIDDEN)
            yield _case(f"{head.kind}: lengths {first!r} and {second!r}", twice, 400)
        yield from _of_codings(head)
    yield from _of_chunks()
    yield _case("post: asks first", POST.plus((b"Expect", b"100-continue")), 401, (100, 401))
    yield _case("post: expects something", POST.plus((b"Expect", b"something")), 401)
    yield _case("post: too much", POST.instead(length, b"999999999999"), 401)
    old = replace(PAGE, version=b"HTTP/1.0").plus(
        (b"Transfer-Encoding", b"chunked"), body=b"0\r\n\r\n" + HIDDEN
    )
    yield _case("page: chunks in HTTP/1.0", old, 400)


def _of_codings(head: Head) -> Iterator[Variation]:
    """Codings that a proxy may not know or may spell differently, with a request behind the shorter body."""
    body = b"0\r\n\r\n" + HIDDEN
    for value in BAD_CODINGS:
        alone = head.plus((b"Transfer-Encoding", value), body=body)
        yield _case(f"{head.kind}: coding {value!r}", alone, 400)
        yield _case(f"{head.kind}: coding {value!r} and a length", alone.plus((b"Content-Length", b"5")), 400)
    lengths = (b"Content-Length", b"%d" % len(body))
    for name in (
        b"Transfer-Encoding ",
        b"Transfer-Encoding\t",
        b" Transfer-Encoding",
        b"Transfer\x00-Encoding",
    ):
        yield _case(f"{head.kind}: {name!r}", head.plus((name, b"chunked"), lengths, body=body), 400)
    # Further headers for every request; the body has the stated length.
    for name in (b"Transfer_Encoding", b"X-Transfer-Encoding", b"TE"):
        status = 400 if head.is_handshake else head.same
        yield _case(f"{head.kind}: {name!r}", head.plus((name, b"chunked"), lengths, body=body), status)
    folded = head.plus((b"Transfer-Encoding", b"\r\n chunked"), lengths, body=body)
    yield _case(f"{head.kind}: a coding in the next line", folded, 400)
    split = head.plus((b"X", b"a\nTransfer-Encoding: chunked"), lengths, body=body)
    yield _case(f"{head.kind}: a coding behind a line feed", split, 400)
    twice = head.plus((b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"identity"), body=body)
    yield _case(f"{head.kind}: two codings", twice, 400)


def _of_chunks() -> Iterator[Variation]:
    chunked = POST.without(b"Content-Length").plus((b"Transfer-Encoding", b"chunked"))
    for number, chunks in enumerate(BAD_CHUNKS):
        # The route answers without reading a body; when the parser finds the fault first, the answer is 400.
        sent = replace(chunked, body=chunks + HIDDEN)
        again = sent.encoded().replace(b"/" + SMUGGLED.encode(), b"/api/v1/trading/health")
        yield _case(f"post: chunks {number}", again, 400, 401, (401, 400), (401, 200))
    endless = replace(chunked, body=b"1\r\na\r\n0\r\n" + b"X: a\r\n" * 20_000)
    yield _case("post: trailers without end", endless, 400, 401, (401, 400))


# Lines, and their characters.


def _of_lines() -> Iterator[Variation]:
    for byte in (*range(9), *range(10, 32), 127):
        for head in (HEALTH, HANDSHAKE):
            yield _case(f"{head.kind}: byte {byte} in a value", head.plus((b"X", b"a%cb" % byte)), 400)
            yield _case(f"{head.kind}: byte {byte} in a name", head.plus((b"X%cY" % byte, b"a")), 400)
    for byte in b' "(),/:;<=>?@[\\]{}\xe9\x09':
        if byte != ord(":"):
            yield _case(f"health: byte {byte} in a name", HEALTH.plus((b"X%cY" % byte, b"a")), 400)
    for head in BASES:
        good = head.encoded()
        for name, data in (
            ("line feeds alone", head.encoded(b"\n")),
            ("carriage returns alone", head.encoded(b"\r")),
            ("line feed and carriage return", head.encoded(b"\n\r")),
            ("a line feed after the first line", good.replace(b"\r\n", b"\n", 1)),
            ("a line that goes on", good.replace(b"here\r\n", b"here\r\nX: a\r\n b\r\n", 1)),
            ("a line that goes on after a tab", good.replace(b"here\r\n", b"here\r\n\tb\r\n", 1)),
            ("a first header that goes on", good.replace(b"\r\nHost", b"\r\n Host", 1)),
            ("a line without a colon", good.replace(b"here\r\n", b"here\r\nnothing\r\n", 1)),
            ("a header without a name", good.replace(b"here\r\n", b"here\r\n: nothing\r\n", 1)),
            ("a space before a colon", good.replace(b"Host:", b"Host :", 1)),
            ("a line feed alone at the end", good.replace(b"\r\n\r\n", b"\r\n\n", 1)),
            ("a space before the method", b" " + good),
            ("noise before it", b"\xff\xfe" + good),
        ):  # fmt: skip
            yield _case(f"{head.kind}: {name}", data, 400)
        for name, data in (
            ("empty lines before it", b"\r\n\r\n" + good),
            ("tabs and spaces around a value", good.replace(b"Host: here", b"Host: \t here \t", 1)),
            ("no space after a colon", good.replace(b"Host: here", b"Host:here", 1)),
            ("bytes beyond ASCII in a value", head.plus((b"X", b"\x80\x9b\xff")).encoded()),
        ):
            yield _case(f"{head.kind}: {name}", data, head.same)
    for name, data in (
        ("a handshake of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("the line of a PROXY protocol", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + HEALTH.encoded()),
        ("HTTP/0.9", b"GET /\r\n\r\n"),
        ("noise", bytes(range(128, 256)) * 20 + b"\r\n\r\n"),
        ("zeros", bytes(5000)),
    ):
        yield _case(f"no HTTP: {name}", data, 400)


def _of_sizes() -> Iterator[Variation]:
    for head in BASES:
        for name, changed in (
            ("a cookie of 8,300 bytes", head.plus((b"Cookie", b"a" * 8_300))),
            ("a cookie of 60,000 bytes", head.plus((b"Cookie", b"a" * 60_000))),
            ("a name of 9,000 bytes", head.plus((b"X" * 9_000, b"a"))),
            ("129 headers", head.plus(*((b"X-%d" % n, b"a") for n in range(129)))),
            ("4,000 headers", head.plus(*((b"X-%d" % n, b"a") for n in range(4_000)))),
            ("a query of 9,000 bytes", replace(head, target=head.target + b"?x=" + b"a" * 9_000)),
            ("a query of 60,000 bytes", replace(head, target=head.target + b"?x=" + b"a" * 60_000)),
        ):
            yield _case(f"{head.kind}: {name}", changed, head.same)
        for name, changed in (
            ("a header too long", head.plus((b"X", b"a" * TOO_LONG))),
            ("a name too long", head.plus((b"X" * TOO_LONG, b"a"))),
            ("too many headers", head.plus(*((b"X-%d" % n, b"a") for n in range(9_000)))),
            ("a target too long", replace(head, target=head.target + b"a" * TOO_LONG)),
            ("a query too long", replace(head, target=head.target + b"?x=" + b"a" * TOO_LONG)),
            ("a head without end", head.plus((b"X", b"a" * 2_000_000))),
        ):
            yield _case(f"{head.kind}: {name}", changed, 431)
    for repeated in (b"Connection", b"Upgrade", b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Version"):
        crowd = HANDSHAKE.plus(*((repeated, b"a") for _ in range(2_000)))
        yield _case(f"handshake: {repeated.decode()} 2,000 times more", crowd, 101, 400, 426)


# More than one request on a connection, and bytes behind a request.


def _of_pipelines() -> Iterator[Variation]:
    page, health, post = PAGE.encoded(), HEALTH.encoded(), POST.encoded()
    shake = HANDSHAKE.encoded()
    refused = HANDSHAKE.instead(b"Sec-WebSocket-Version", b"99").encoded()
    yield _case("two requests", page + health, (404, 200))
    yield _case("three requests", health + page + post, (200, 404, 401))
    yield _case("fifty requests", page * 25 + health * 25, (404,) * 25 + (200,) * 25)
    yield _case("a handshake behind a request that waits", page + shake, (404, 400))
    yield _case("noise behind a request that waits", page + b"\xff\r\n\r\n", (404, 400))
    yield _case("a head too long behind a request that waits", page + b"GET /" + b"a" * TOO_LONG, (404, 431))
    yield _case("a head without Host behind a request", page + PAGE.without(b"Host").encoded(), (404, 400))
    yield _case(
        "a request behind one that closes", PAGE.plus((b"Connection", b"close")).encoded() + HIDDEN, 404
    )
    yield _case("a request behind a refusal", PAGE.without(b"Host").encoded() + HIDDEN, 400)
    yield _case("a request behind a handshake", shake + HIDDEN, 101)
    yield _case("a request behind a refused handshake", refused + HIDDEN, 426)
    body = HANDSHAKE.plus((b"Content-Length", b"5")).encoded()
    yield _case("a request behind a handshake with a body", body + HIDDEN, 400)
    for path in (b"/ws/", b"/nowhere"):
        lost = replace(HANDSHAKE, target=path).encoded()
        yield _case(f"a request behind a handshake at {path!r}", lost + HIDDEN, 404)
    yield _case("a body shorter than a request behind it", POST.encoded() + health, (401, 200))
    many = POST.instead(b"Content-Length", b"60000")
    yield _case(
        "a long body and a request", replace(many, body=b"x" * 60_000).encoded() + health, (401,), (401, 200)
    )


# Slow clients.


def _of_time() -> Iterator[Variation]:
    def slow(name: str, pieces: tuple[bytes, ...], pause_seconds: float, *answers: Answers) -> Variation:
        return Variation(name, pieces, frozenset(answers), pause_seconds=pause_seconds)

    def endless(name: str, pieces: tuple[bytes, ...], *answers: Answers) -> Variation:
        return Variation(name, pieces, frozenset(answers), pause_seconds=0.5, waits=True)

    nothing: Answers = ()
    for head in BASES:
        data = head.encoded()
        dripped = tuple(bytes([byte]) for byte in data)
        yield slow(f"{head.kind}: byte by byte", dripped, 0.005, (head.same,))
        yield slow(
            f"{head.kind}: in two halves", (data[: len(data) // 2], data[len(data) // 2 :]), 0.5, (head.same,)
        )
        lines = data[: data.index(b"\r\n\r\n") + 2]
        yield endless(f"{head.kind}: half a head", (lines[:-2],), nothing)
        yield endless(
            f"{head.kind}: a head that never ends", (lines, *itertools.repeat(b"X: a\r\n", 40)), nothing
        )
    yield endless("nothing at all", (b"",), nothing)
    yield endless("empty lines", tuple(itertools.repeat(b"\r\n", 40)), nothing)
    dripped_body = (POST.instead(b"Content-Length", b"40").encoded(), *itertools.repeat(b"x", 38))
    yield endless("post: a body that never ends", dripped_body, (401,))
    yield slow("a pause between two requests", (HEALTH.encoded(), HEALTH.encoded()), 11.0, (200, 200))
    yield endless("a second head that never ends", (HEALTH.encoded() + b"GET / HTTP/1.1\r\n",), (200,))
