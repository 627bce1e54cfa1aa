"""`guardwire revoke`: revokes users and tokens, lists the revocations, and undoes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from realtime.cli.database import check_database, read_database_settings
from realtime.cli.process import report_progress
from realtime.errors import ConfigurationError, NothingRevoked
from realtime.settings import Settings

if TYPE_CHECKING:
    from auth.revocation import Revocations
    from auth.revoked_rows import Revocation


def revoke(
    user: Annotated[UUID | None, typer.Option(help="Revoke all present tokens of this user.")] = None,
    token_id: Annotated[str | None, typer.Option(help="Revoke the one token with this jti.")] = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="Also refuse the user's tokens that are issued before then: 2026-12-24T18:00Z, or without a"
            " zone in UTC.",
            metavar="TIME",
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="A note for people, kept with the revocation.")] = "",
    listed: Annotated[bool, typer.Option("--list", help="Print the revocations in force.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Undo the revocations of this user or token.")] = False,
) -> None:
    """End a user's or a token's access now.

    The revocation is committed in DATABASE_URL and needs no Redis. Every node
    closes the streams that it covers within seconds, and with REDIS_URL at
    once. Tokens that are issued later are valid: lock the user out at the
    identity provider first, or use --until.

    [bold]Example[/bold]

    guardwire revoke --user 0e1550bf-b861-4cc3-875b-4b54a426f907 --reason "left the desk"
    """
    if listed and (user or token_id or until or reason or undo):
        raise ConfigurationError(["--list takes no other option: it prints all revocations in force."])
    if undo and (until or reason):
        raise ConfigurationError(["--undo takes --user or --token-id and nothing else."])
    locked_until = None if until is None else _parse_time(until)
    read = read_database_settings("to revoke in")
    if listed:
        asyncio.run(_list(read))
    elif undo:
        asyncio.run(_undo(read, user, token_id))
    else:
        asyncio.run(_revoke(read, user, token_id, locked_until, reason))


async def _revoke(
    read: Settings, user: UUID | None, token_id: str | None, locked_until: datetime | None, reason: str
) -> None:
    async with _revocations(read) as revocations:
        done = await revocations.revoke(
            user_id=user, token_id=token_id, locked_until=locked_until, reason=reason
        )
    report_progress(f"{_subject(done)}: {_effect(done)}; open streams end within seconds")
    if user is not None and locked_until is None:
        report_progress(
            "tokens that are issued later are valid; to refuse these too, lock the user out at the"
        )
        report_progress("identity provider, or repeat this with --until")


async def _list(read: Settings) -> None:
    async with _revocations(read) as revocations:
        in_force = await revocations.list_in_force()
        if not in_force:
            report_progress("no revocation is in force")
        for each in in_force:
            reason = "".join(character for character in each.reason if character.isprintable())
            note = f"  ({reason})" if reason else ""
            print(f"{_format_time(each.revoked_at)}  {_subject(each)}: {_effect(each)}{note}")


async def _undo(read: Settings, user: UUID | None, token_id: str | None) -> None:
    subject = f"user {user}" if user is not None else f"token {token_id}"
    async with _revocations(read) as revocations:
        undone = await revocations.undo(user_id=user, token_id=token_id)
    if not undone:
        raise NothingRevoked(
            f"There is no revocation of {subject}: `guardwire revoke --list` lists them all."
        )
    report_progress(
        f"{subject}: {undone} revocation{'s' if undone > 1 else ''} undone; unexpired tokens are valid again"
    )


@contextlib.asynccontextmanager
async def _revocations(read: Settings) -> AsyncIterator[Revocations]:
    from auth.revocation import Revocations
    from realtime.database import engine_for
    from realtime.store.redis_pool import connect

    await check_database(read.database_url, with_settings=not read.database_pooled)
    engine = engine_for(read.database_url, pool_size=1, pooled=read.database_pooled)
    redis = connect(read.redis_url) if read.redis_url else None
    try:
        yield Revocations(engine=engine, redis=redis)
    finally:
        await engine.dispose()
        if redis is not None:
            await redis.aclose()


def _parse_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(["--until takes a time such as 2026-12-24T18:00Z."]) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _subject(revocation: Revocation) -> str:
    if revocation.user_id is not None:
        return f"user {revocation.user_id}"
    return f"token {revocation.token_id}"


def _effect(revocation: Revocation) -> str:
    if revocation.user_id is None:
        return "refused until it expires"
    if revocation.locked_until is not None:
        return f"locked out until {_format_time(revocation.locked_until)}"
    return f"tokens issued until {_format_time(revocation.revoked_at)} are refused"


def _format_time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
