"""What one client holds, and the next frame that it must get: pure, no sockets and no clocks.

A session keeps two pointers and no queue: the snapshot that the client's state equals, and (in the hub) the
newest there is. Whatever happened in between, the next frame is the difference of the two, so a slow client
costs one
snapshot.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from guardwire.messages import Resume, encode
from guardwire.state import CHANNELS
from realtime.history import Edge
from realtime.metrics import METRICS
from realtime.owners import blocked, is_same
from realtime.snapshot import Channels, Freshness, Snapshot

_EMPTY_PATCH: Final = b"{}"
_decode_patch = msgspec.json.Decoder(dict[str, Any]).decode


def channels_in_order(names: Iterable[str]) -> Channels:
    """The channels of ``names``, each once, in the order that all clients share, so that their bytes can be
    shared.
    """
    wanted = set(names)
    return tuple(channel for channel in CHANNELS if channel in wanted)


class Session:
    """One client's place in the stream of ``user_id``, restricted to ``channels``.

    ``revision`` is the one that the client holds; it may be below that of ``held`` when what changed since
    was in channels that it has not got, and then the next frame's base is still ``revision``.
    """

    __slots__ = ("channels", "held", "revision", "user_id")

    def __init__(self, user_id: UUID, channels: Channels) -> None:
        self.user_id = user_id
        self.channels = channels
        self.held: Snapshot | None = None
        self.revision = -1

    def snapshot(self, newest: Snapshot, fresh: Freshness) -> bytes:
        """The whole state, which replaces whatever the client holds."""
        self._accept(newest)
        self.revision = newest.revision
        return b'{"type":"snapshot","epoch":%d,"revision":%d,"as_of":"%s","age_ms":%d,"state":%s}' % (
            newest.epoch,
            newest.revision,
            fresh.as_of.encode(),
            fresh.age_ms,
            newest.encoded(self.channels),
        )

    def update(self, newest: Snapshot, fresh: Freshness) -> bytes | None:
        """What turns the client's state into ``newest``; None when nothing that it subscribed to changed."""
        self._refuse_of_another(newest)
        held = self.held
        if held is None or held.epoch != newest.epoch:
            return self.snapshot(newest, fresh)
        if newest is held or newest.revision <= held.revision:
            return None
        patch = newest.patch_from(held, self.channels)
        self._accept(newest)
        if patch == _EMPTY_PATCH:
            return None
        return self._update(newest, fresh, patch)

    def heartbeat(self, fresh: Freshness, *, stale: bool) -> bytes:
        """An empty update, by which a client of quiet channels keeps pace."""
        held = self._held()
        base, self.revision = self.revision, held.revision
        return b'{"type":"heartbeat","base":%d,"revision":%d,"as_of":"%s","age_ms":%d,"stale":%s}' % (
            base,
            held.revision,
            fresh.as_of.encode(),
            fresh.age_ms,
            b"true" if stale else b"false",
        )

    def subscribe(self, names: Iterable[str], fresh: Freshness) -> list[bytes]:
        """Add channels; each arrives whole. Channels that the client has already are left alone."""
        added = channels_in_order(set(names) - set(self.channels))
        if not added:
            return []
        held = self._held()
        frames = self._settle(fresh)
        self.channels = channels_in_order((*self.channels, *added))
        return [*frames, self._update(held, fresh, held.encoded(added))]

    def unsubscribe(self, names: Iterable[str], fresh: Freshness) -> list[bytes]:
        """Drop channels; each leaves as null."""
        dropped = channels_in_order(set(names) & set(self.channels))
        if not dropped:
            return []
        held = self._held()
        frames = self._settle(fresh)
        self.channels = channels_in_order(set(self.channels) - set(dropped))
        return [*frames, self._update(held, fresh, encode(dict.fromkeys(dropped)))]

    def resume(
        self, revision: int, channels: Channels, path: Sequence[Edge], newest: Snapshot, fresh: Freshness
    ) -> list[bytes]:
        """Bring a client that holds ``channels`` at ``revision`` to ``newest`` along ``path``; missing
        channels arrive whole.

        ``path`` leads from ``revision`` to ``newest.revision``; its patches are sent one by one, since they
        do not compose.
        """
        self._accept(newest)
        if any(edge.owner != self.user_id for edge in path):
            raise blocked("step of a resume", self.user_id)
        kept = channels_in_order(set(channels) & set(self.channels))
        frames = []
        self.revision = revision
        for edge in path:
            patch = _restrict(edge.patch, kept)
            if patch != _EMPTY_PATCH:
                frames.append(_update_frame(self.revision, edge.revision, fresh, patch))
                self.revision = edge.revision
        frames += self._settle(fresh)
        added = channels_in_order(set(self.channels) - set(kept))
        dropped = channels_in_order(set(channels) - set(kept))
        if added:
            frames.append(self._update(newest, fresh, newest.encoded(added)))
        if dropped:
            frames.append(self._update(newest, fresh, encode(dict.fromkeys(dropped))))
        # Who missed nothing is told so at once, and need not wait for the next heartbeat to be sure.
        return frames or [self.heartbeat(fresh, stale=False)]

    def _settle(self, fresh: Freshness) -> list[bytes]:
        """Bring the client's revision to that of its state, so that base = revision can be said next."""
        held = self._held()
        return [] if self.revision == held.revision else [self.heartbeat(fresh, stale=False)]

    def _update(self, snapshot: Snapshot, fresh: Freshness, patch: bytes) -> bytes:
        base, self.revision = self.revision, snapshot.revision
        told = snapshot.told
        # Clients of one account are mostly told the same, one after the other.
        if told is None or told[0] is not patch or told[1] != base or told[2] != fresh:
            told = snapshot.told = patch, base, fresh, _update_frame(base, snapshot.revision, fresh, patch)
        return told[3]

    def _accept(self, snapshot: Snapshot) -> None:
        self._refuse_of_another(snapshot)
        self.held = snapshot

    def _refuse_of_another(self, snapshot: Snapshot) -> None:
        # The last wall: whatever went wrong before, nobody is sent another's data.
        if not is_same(snapshot.user_id, self.user_id):
            raise blocked("frame", self.user_id)

    def _held(self) -> Snapshot:
        if self.held is None:
            raise RuntimeError("the session has not begun")
        return self.held


def _update_frame(base: int, revision: int, fresh: Freshness, patch: bytes) -> bytes:
    return b'{"type":"update","base":%d,"revision":%d,"as_of":"%s","age_ms":%d,"patch":%s}' % (
        base,
        revision,
        fresh.as_of.encode(),
        fresh.age_ms,
        patch,
    )


def _restrict(patch: bytes, channels: Channels) -> bytes:
    if channels == CHANNELS:
        return patch
    whole = _decode_patch(patch)
    return encode({channel: whole[channel] for channel in channels if channel in whole})


def retry_after_ms(least: int, most: int) -> int:
    """Milliseconds between ``least`` and ``most``."""
    return random.randint(least, most)  # noqa: S311 - spreading load needs no secret


def count_snapshot(resume: Resume | None, newest: Snapshot) -> None:
    """Count a snapshot that opens a stream, and why a client that had come to resume gets one."""
    METRICS.updates.add(1, "snapshot")
    if resume is not None:
        METRICS.resyncs.add(1, "history" if resume.epoch == newest.epoch else "epoch")
