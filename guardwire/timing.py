"""The time limits of the client, in one place; tests pass shorter ones."""

from __future__ import annotations

import msgspec


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long the client waits for what, in seconds."""

    #: For a TCP connection, a handshake, or the head of an HTTP answer.
    open_seconds: float = 10.0
    #: For the first frame of an open link.
    first_frame_seconds: float = 10.0
    #: For any frame, before a link counts as dead and the state as blind; see `silence_limit_seconds`.
    silence_seconds: float = 15.0
    #: For a snapshot that was requested, before it is requested again.
    snapshot_seconds: float = 5.0
    #: For the token callback.
    token_seconds: float = 30.0
    #: A link that lived for so long makes the delays between attempts short again.
    proven_seconds: float = 5.0
    #: Between the starts of two long polls.
    poll_round_seconds: float = 1.0
    #: On a fallback, before the best transport is tried again. The pause grows threefold with each try.
    first_return_seconds: float = 5.0
    longest_return_seconds: float = 300.0

    def silence_limit_seconds(self, heartbeat_seconds: float) -> float:
        """The silence after which a link counts as dead, where the server sends heartbeats so often.

        Two heartbeats may be lost, but no server can keep its clients from noticing a dead link for longer than
        three minutes.
        """
        return max(self.silence_seconds, min(3 * heartbeat_seconds, 180.0))
