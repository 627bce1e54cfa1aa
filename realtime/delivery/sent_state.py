"""The state that one client has been sent, and the next frame that it gets. Pure.

Two pointers are kept for a client, and no queue: the snapshot that the client's state equals, and (in the hub) the
newest one. The next frame is always the difference of the two, so a slow client costs one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from guardwire.messages import Resume, encode
from guardwire.state import CHANNELS
from realtime.history import Edge
from realtime.metrics import METRICS
from realtime.owners import count_blocked, is_same
from realtime.snapshot import Channels, Freshness, Snapshot

_EMPTY_PATCH: Final = b"{}"
_decode_patch = msgspec.json.Decoder(dict[str, Any]).decode


class Frame(NamedTuple):
    """A frame to write; ``payload`` is its JSON. ``epoch`` and ``revision`` are what the client holds after it, -1
    where the frame says nothing of the account.
    """

    type: Literal[
        "welcome", "snapshot", "update", "heartbeat", "auth_required", "auth_ok", "move",
        "ack_ok", "snooze_ok", "error",
    ]  # fmt: skip
    payload: bytes
    epoch: int = -1
    revision: int = -1


def channels_in_order(names: Iterable[str]) -> Channels:
    """The channels of ``names``, each once, in the order that all clients share, so that their bytes can be shared."""
    wanted = set(names)
    return tuple(channel for channel in CHANNELS if channel in wanted)


def count(frame: Frame) -> None:
    """Count a frame about the account that is sent."""
    if frame.epoch >= 0:
        METRICS.updates.add(1, frame.type)


def begin(
    user_id: UUID,
    channels: Channels,
    newest: Snapshot,
    fresh: Freshness,
    *,
    resume: Resume | None,
    path: Sequence[Edge] | None,
) -> tuple[SentState, list[Frame]]:
    """The state of a client that was brought to ``newest``, and the frames that do it; raises WrongOwner."""
    sent = SentState(user_id, channels, newest)
    if resume is not None and path is not None:
        held = channels if resume.channels is None else channels_in_order(resume.channels)
        return sent, sent.resume(resume.revision, held, path, newest, fresh)
    if resume is not None:
        METRICS.resyncs.add(1, "history" if resume.epoch == newest.epoch else "epoch")
    return sent, [sent.whole(newest, fresh)]


class SentState:
    """The state that one client of ``user_id`` has been sent, restricted to ``channels``.

    ``revision`` is the one that the client holds; it may be below that of ``snapshot`` when what changed since was in
    channels that it has not got, and then the next frame's base is still ``revision``. Every method that takes a
    snapshot raises WrongOwner when it is another account's.
    """

    __slots__ = ("channels", "revision", "snapshot", "user_id")

    def __init__(self, user_id: UUID, channels: Channels, snapshot: Snapshot) -> None:
        self.user_id = user_id
        self.channels = channels
        self._require_own(snapshot)
        self.snapshot = snapshot
        self.revision = -1

    def whole(self, newest: Snapshot, fresh: Freshness) -> Frame:
        """The whole state, which replaces the state that the client holds."""
        self._accept(newest)
        self.revision = newest.revision
        payload = b'{"type":"snapshot","epoch":%d,"revision":%d,"as_of":"%s","age_ms":%d,"state":%s}' % (
            newest.epoch,
            newest.revision,
            fresh.as_of.encode(),
            fresh.age_ms,
            newest.encoded(self.channels),
        )
        return Frame("snapshot", payload, newest.epoch, newest.revision)

    def update(self, newest: Snapshot, fresh: Freshness) -> Frame | None:
        """The update that turns the client's state into ``newest``; None when no channel of the client changed."""
        self._require_own(newest)
        held = self.snapshot
        if held.epoch != newest.epoch:
            return self.whole(newest, fresh)
        if newest is held or newest.revision <= held.revision:
            return None
        patch = newest.patch_from(held, self.channels)
        self.snapshot = newest
        if patch == _EMPTY_PATCH:
            return None
        return self._update(newest, fresh, patch)

    def heartbeat(self, fresh: Freshness, *, stale: bool) -> Frame:
        """An empty update, by which a client of quiet channels keeps pace."""
        base, self.revision = self.revision, self.snapshot.revision
        payload = b'{"type":"heartbeat","base":%d,"revision":%d,"as_of":"%s","age_ms":%d,"stale":%s}' % (
            base,
            self.revision,
            fresh.as_of.encode(),
            fresh.age_ms,
            b"true" if stale else b"false",
        )
        return Frame("heartbeat", payload, self.snapshot.epoch, self.revision)

    def subscribe(self, names: Iterable[str], fresh: Freshness) -> list[Frame]:
        """Add channels; each arrives whole. Channels that the client has already are left alone."""
        added = channels_in_order(set(names) - set(self.channels))
        if not added:
            return []
        frames = self._settle(fresh)
        self.channels = channels_in_order((*self.channels, *added))
        return [*frames, self._update(self.snapshot, fresh, self.snapshot.encoded(added))]

    def unsubscribe(self, names: Iterable[str], fresh: Freshness) -> list[Frame]:
        """Drop channels; each leaves as null."""
        dropped = channels_in_order(set(names) & set(self.channels))
        if not dropped:
            return []
        frames = self._settle(fresh)
        self.channels = channels_in_order(set(self.channels) - set(dropped))
        return [*frames, self._update(self.snapshot, fresh, encode(dict.fromkeys(dropped)))]

    def resume(
        self, revision: int, channels: Channels, path: Sequence[Edge], newest: Snapshot, fresh: Freshness
    ) -> list[Frame]:
        """Bring a client that holds ``channels`` at ``revision`` to ``newest`` along ``path``; missing channels arrive
        whole.

        ``path`` leads from ``revision`` to ``newest.revision``; its patches are sent one by one, since they do not
        compose.
        """
        kept = channels_in_order(set(channels) & set(self.channels))
        frames = self.replay(revision, kept, path, newest, fresh)
        frames += self._settle(fresh)
        added = channels_in_order(set(self.channels) - set(kept))
        dropped = channels_in_order(set(channels) - set(kept))
        if added:
            frames.append(self._update(newest, fresh, newest.encoded(added)))
        if dropped:
            frames.append(self._update(newest, fresh, encode(dict.fromkeys(dropped))))
        # A client that missed nothing learns so at once, and need not wait for the next heartbeat to be sure.
        return frames or [self.heartbeat(fresh, stale=False)]

    def replay(
        self, revision: int, channels: Channels, path: Sequence[Edge], newest: Snapshot, fresh: Freshness
    ) -> list[Frame]:
        """The updates along ``path``, restricted to ``channels``; those that change nothing there are left out."""
        self._accept(newest)
        if any(edge.owner != self.user_id for edge in path):
            raise count_blocked("step of a resume", self.user_id)
        frames = []
        self.revision = revision
        for edge in path:
            patch = _restrict(edge.patch, channels)
            if patch != _EMPTY_PATCH:
                frames.append(_update_frame(newest.epoch, self.revision, edge.revision, fresh, patch))
                self.revision = edge.revision
        return frames

    def _settle(self, fresh: Freshness) -> list[Frame]:
        """Bring the client's revision to that of its state, so that the next update has base = revision."""
        return [] if self.revision == self.snapshot.revision else [self.heartbeat(fresh, stale=False)]

    def _update(self, snapshot: Snapshot, fresh: Freshness, patch: bytes) -> Frame:
        base, self.revision = self.revision, snapshot.revision
        # Most clients of one account get the same update, one after the other.
        key = patch, base, fresh
        frame: Frame | None = snapshot.shared_update(key)
        if frame is None:
            frame = _update_frame(snapshot.epoch, base, snapshot.revision, fresh, patch)
            snapshot.share_update(key, frame)
        return frame

    def _accept(self, snapshot: Snapshot) -> None:
        self._require_own(snapshot)
        self.snapshot = snapshot

    def _require_own(self, snapshot: Snapshot) -> None:
        # The last check of owners. A mistake in any layer before must not send one user's data to another.
        if not is_same(snapshot.user_id, self.user_id):
            raise count_blocked("frame", self.user_id)


def _update_frame(epoch: int, base: int, revision: int, fresh: Freshness, patch: bytes) -> Frame:
    payload = b'{"type":"update","base":%d,"revision":%d,"as_of":"%s","age_ms":%d,"patch":%s}' % (
        base,
        revision,
        fresh.as_of.encode(),
        fresh.age_ms,
        patch,
    )
    return Frame("update", payload, epoch, revision)


def _restrict(patch: bytes, channels: Channels) -> bytes:
    if channels == CHANNELS:
        return patch
    whole = _decode_patch(patch)
    if whole.keys() <= set(channels):
        return patch
    return encode({channel: whole[channel] for channel in channels if channel in whole})
