"""What a client is saying: the library's parser and the beginning of a message, while there is one.

Between two frames a parser knows nothing but that the connection is open, which is what a new one knows. So a
socket lets go of its reader there and makes a new one when more comes; readers are never shared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import GeneratorType
from typing import Final

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from guardwire.errors import CloseCode
from realtime.delivery.allowance import Allowance
from realtime.errors import StreamClosed

#: Where the handshake's parser writes, too; nothing below a warning is heard of it.
_LOG: Final = logging.getLogger("uvicorn.error")
_BETWEEN_FRAMES: Final = StreamReader.at_eof.__code__


class Reader:
    """Reads from the beginning of a frame, messages of ``max_bytes`` at most; None for any size.

    ``parser`` is open as long as nothing was wrong, and holds what is to be written in answer.
    """

    __slots__ = ("_fragments", "parser")

    def __init__(self, max_bytes: int | None) -> None:
        self.parser = ServerProtocol(state=OPEN, max_size=max_bytes, logger=_LOG)
        self._fragments = b""

    def messages(self, data: bytes, allowance: Allowance) -> Iterator[bytes]:
        """The messages that ``data`` makes whole; raises StreamClosed over those that may not be sent."""
        self.parser.receive_data(data)
        for event in self.parser.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.BINARY:
                raise StreamClosed(CloseCode.MALFORMED, "frames are JSON text, not binary")
            if event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._fragments += event.data
                if event.fin:
                    if not allowance.takes_message():
                        raise StreamClosed(CloseCode.RATE_LIMITED, "too many frames")
                    message, self._fragments = self._fragments, b""
                    yield message
                    continue
            if not allowance.takes_control():
                raise StreamClosed(CloseCode.RATE_LIMITED, "too many control frames or fragments")

    def is_at_rest(self) -> bool:
        """Whether it holds nothing of a frame or a message, and the connection is open as far as it knows."""
        parser = self.parser
        return (
            parser.state is OPEN
            and parser.current_size is None
            and not (parser.events or parser.writes or parser.reader.buffer or parser.reader.eof)
            and _waits_for_a_frame(parser.parser)
        )


def _waits_for_a_frame(generator: object) -> bool:
    """Where ``generator`` stands; the buffer alone does not tell, for the head of a frame leaves it first."""
    while isinstance(generator, GeneratorType):
        if generator.gi_code is _BETWEEN_FRAMES:
            return True
        generator = generator.gi_yieldfrom
    return False
