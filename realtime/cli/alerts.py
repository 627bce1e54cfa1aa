"""Commands about alerts: `guardwire alerts`, `guardwire arm` and `guardwire escalation`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from uuid import UUID

import typer

from realtime.cli.database import run_on_database
from realtime.cli.process import report_progress
from realtime.errors import ConfigurationError, NothingFound

if TYPE_CHECKING:
    import msgspec

    from realtime.delivery.http.alert_documents import AlertRecord

User = Annotated[UUID, typer.Option(help="The user whose account it is.")]
AnyUser = Annotated[
    UUID | None, typer.Option(help="Only this account; without it, what holds for every account.")
]
AlertId = Annotated[
    UUID, typer.Argument(help="The alert's id, as `guardwire alerts list` prints it.", metavar="ID")
]
By = Annotated[str, typer.Option("--as", help="Your name, which the log keeps.", metavar="NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, in the form of REST.")]
Generation = Annotated[
    int | None,
    typer.Option(help="Refuse when the alert has been raised again since.", show_default="the present one"),
]

_MOST_NAME_CHARACTERS: Final = 64

alerts: typer.Typer = typer.Typer(help="Alerts: list, acknowledge and snooze them.", no_args_is_help=True)
arm: typer.Typer = typer.Typer(help="Whether somebody has to attend an account.", no_args_is_help=True)
escalation: typer.Typer = typer.Typer(help="When an unacknowledged alert reaches whom.", no_args_is_help=True)


@alerts.command("list")
def list_(
    user: User,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    as_json: Json = False,
) -> None:
    """List an account's open alerts, newest first.

    Open are those that are not both resolved and acknowledged. Each line has
    the alert's id, what it is about, and what became of it.

    [bold]Example[/bold]

    guardwire alerts list --user 0e1550bf-b861-4cc3-875b-4b54a426f907
    """

    async def work(driver: Any) -> dict[str, dict[str, Any]]:
        from queries.alert_calls import list_alerts

        return await list_alerts(driver, user, is_open=None if everything else True)

    found = run("to list alerts of", work)
    from realtime.delivery.http.alert_documents import AlertList, alert_record

    records = [alert_record(alert_id, alert) for alert_id, alert in found.items()]
    if as_json:
        print_json(AlertList(user_id=str(user), alerts=records))
        return
    for record in records:
        print(_line(record))


@alerts.command("show")
def show(alert: AlertId, user: User, as_json: Json = False) -> None:
    """Print an alert with its log, oldest entry first.

    [bold]Example[/bold]

    guardwire alerts show 3b0a9b3e-6f0d-51a4-8a3c-5d5b8a4f1c20 --user 0e1550bf-b861-4cc3-875b-4b54a426f907
    """

    async def work(driver: Any) -> tuple[dict[str, Any], list[Any]]:
        from queries.alert_calls import read_alert_log

        return await _find(driver, user, alert), await read_alert_log(driver, user, alert)

    found, log = run("to show an alert of", work)
    from realtime.delivery.http.alert_documents import AlertHistory, alert_record, log_record

    record, entries = alert_record(str(alert), found), [log_record(entry) for entry in log]
    if as_json:
        print_json(AlertHistory(user_id=str(user), alert=record, log=entries))
        return
    print(_line(record))
    for entry in entries:
        who = f" by {entry.who}" if entry.who else ""
        detail = "".join(f"  {name}: {value}" for name, value in (entry.detail or {}).items())
        print(f"  {entry.at}  {entry.generation}  {entry.entry}{who}{detail}")


@alerts.command("ack")
def ack(
    alert: AlertId,
    user: User,
    by: By,
    action: Annotated[
        Literal["received", "acting", "done"], typer.Option(help="How far you are.")
    ] = "received",
    generation: Generation = None,
) -> None:
    """Acknowledge an alert: it escalates no further while it holds.

    It holds for a minute (10 s with `done`). If positions that the alert
    speaks of are open then, the alert escalates again.

    [bold]Example[/bold]

    guardwire alerts ack 3b0a9b3e-6f0d-51a4-8a3c-5d5b8a4f1c20 --user 0e1550bf-b861-4cc3-875b-4b54a426f907 --as ana
    """
    check_name(by)

    async def work(driver: Any) -> Any:
        from queries.alert_calls import acknowledge

        present = generation or (await _find(driver, user, alert))["generation"]
        (done,) = await acknowledge(driver, user, {alert: present}, by_name=by, action=action)
        return done

    done = run("to acknowledge an alert of", work)
    _check(done.outcome)
    already = "was acknowledged before" if done.outcome == "already" else "acknowledged"
    report_progress(f"alert {alert} {already} (revision {done.revision})")


@alerts.command("snooze")
def snooze(
    alert: AlertId,
    user: User,
    by: By,
    reason: Annotated[str, typer.Option(help="Why, for people.")],
    seconds: Annotated[int, typer.Option(help="For how long.", min=1, max=3600)] = 600,
    generation: Generation = None,
) -> None:
    """Put the escalation of an alert off, for up to an hour.

    The alert stays listed, and counts as not acknowledged.

    [bold]Example[/bold]

    guardwire alerts snooze 3b0a9b3e-6f0d-51a4-8a3c-5d5b8a4f1c20 --user 0e1550bf-b861-4cc3-875b-4b54a426f907
    --as ana --reason "closing by hand"
    """
    check_name(by)

    async def work(driver: Any) -> Any:
        from queries.alert_calls import snooze

        present = generation or (await _find(driver, user, alert))["generation"]
        return await snooze(driver, user, alert, present, seconds=seconds, by_name=by, reason=reason)

    done = run("to snooze an alert of", work)
    _check(done.outcome)
    report_progress(f"alert {alert} does not escalate for {seconds} s (revision {done.revision})")


@alerts.command("release")
def release(
    discard: Annotated[
        bool, typer.Option("--discard", help="Drop the messages that wait, in place of sending them.")
    ] = False,
) -> None:
    """Let this database's nodes send messages about alerts.

    On a restored, copied or promoted database nothing is sent before this, so
    that a copy for tests never calls anybody. Look at what waits first.

    [bold]Example[/bold]

    guardwire alerts release --discard
    """

    async def work(driver: Any) -> int:
        from queries.alert_calls import release_deliveries

        return await release_deliveries(driver, discard=discard)

    waiting = run("to release the messages of", work)
    became = "dropped" if discard else "sent from now on"
    report_progress(f"nodes deliver; messages that waited and are {became}: {waiting}")


@arm.command("show")
def arm_show(user: User, as_json: Json = False) -> None:
    """Print whether an account is armed, since when, and by whom.

    [bold]Example[/bold]

    guardwire arm show --user 0e1550bf-b861-4cc3-875b-4b54a426f907
    """

    async def work(driver: Any) -> Any:
        from queries.alert_calls import read_arming

        return await read_arming(driver, user)

    arming = run("to read the arming of", work)
    if as_json:
        from realtime.delivery.http.alert_documents import arming_document

        print_json(arming_document(str(user), arming))
        return
    since = f" since {_shown(arming.since)}" if arming.since else ""
    who = f" by {arming.changed_by}" if arming.changed_by else ""
    until = f", armed again at {_shown(arming.until)}" if arming.until else ""
    why = f" ({arming.reason})" if arming.reason else ""
    print(f"{'armed' if arming.armed else 'not armed'}{since}{who}{until}{why}")


@arm.command("on")
def arm_on(user: User, by: By) -> None:
    """Arm an account: an alarm is raised when no bot attends it.

    A bot attends by `attend` frames from its decision loop. The alarm comes
    60 s after the last one, unless `guardwire escalation set` says otherwise.

    [bold]Example[/bold]

    guardwire arm on --user 0e1550bf-b861-4cc3-875b-4b54a426f907 --as ana
    """
    check_name(by)
    report_progress(f"armed (revision {_set_arming(user, armed=True, by_name=by)})")


@arm.command("off")
def arm_off(
    user: User,
    by: By,
    reason: Annotated[str, typer.Option(help="Why, for people.")],
    minutes: Annotated[int, typer.Option(help="After this time it is armed again.", min=1, max=1440)] = 60,
) -> None:
    """Disarm an account for a time of at most a day.

    [bold]Example[/bold]

    guardwire arm off --user 0e1550bf-b861-4cc3-875b-4b54a426f907 --as ana --minutes 30 --reason "a new release"
    """
    check_name(by)
    until = datetime.now(UTC) + timedelta(minutes=minutes)
    revision = _set_arming(user, armed=False, by_name=by, until=until, reason=reason)
    report_progress(f"disarmed until {_shown(until)} (revision {revision})")


@escalation.command("show")
def escalation_show(user: AnyUser = None, as_json: Json = False) -> None:
    """Print the policy of an account, in seconds.

    [bold]Example[/bold]

    guardwire escalation show --user 0e1550bf-b861-4cc3-875b-4b54a426f907
    """

    async def work(driver: Any) -> dict[str, int]:
        from queries.alert_calls import EVERY_ACCOUNT, read_escalation

        return await read_escalation(driver, user or EVERY_ACCOUNT)

    _print_policy(user, run("to read the policy of", work), as_json=as_json)


@escalation.command("set")
def escalation_set(
    values: Annotated[list[str], typer.Argument(help="The values to change.", metavar="NAME=SECONDS...")],
    user: AnyUser = None,
    as_json: Json = False,
) -> None:
    """Change the policy of an account, or the one of all others.

    Alerts that stand keep the policy that held when they were raised.
    `guardwire escalation show` prints the names.

    [bold]Example[/bold]

    guardwire escalation set webhook_after_seconds=5 people_after_seconds=15
    """
    changes = _read_policy(values)

    async def work(driver: Any) -> dict[str, int]:
        from queries.alert_calls import EVERY_ACCOUNT, put_escalation

        return await put_escalation(driver, user or EVERY_ACCOUNT, changes)

    _print_policy(user, run("to change the policy of", work), as_json=as_json)


def run(purpose: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """The result of ``work`` on a connection; raises ConfigurationError for an argument that the database refuses."""
    import asyncpg

    try:
        return run_on_database(purpose, work)
    except (asyncpg.InvalidParameterValueError, asyncpg.CheckViolationError) as error:
        raise ConfigurationError([f"{error.args[0]}."]) from error


def check_name(name: str) -> None:
    """Raise ConfigurationError unless ``name`` is 1 to 64 printable ASCII characters."""
    if not (
        0 < len(name.strip()) <= len(name) <= _MOST_NAME_CHARACTERS and name.isascii() and name.isprintable()
    ):
        raise ConfigurationError([f"--as takes 1 to {_MOST_NAME_CHARACTERS} printable ASCII characters."])


def print_json(document: msgspec.Struct) -> None:
    """Print a document of REST."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(document)).decode())


async def _find(driver: Any, user: UUID, alert: UUID) -> dict[str, Any]:
    from queries.alert_calls import list_alerts

    found = await list_alerts(driver, user, alert=alert)
    if not found:
        _check("unknown_alert")
    return found[str(alert)]


def _check(outcome: str) -> None:
    if outcome == "unknown_alert":
        raise NothingFound("The account has no alert of this id: `guardwire alerts list --all` lists them.")
    if outcome == "stale_generation":
        raise NothingFound("The alert is in another generation: look at it again.")


def _set_arming(user: UUID, **arming: Any) -> int:
    async def work(driver: Any) -> int:
        from queries.alert_calls import set_arming

        return await set_arming(driver, user, **arming)

    revision: int = run("to arm an account of", work)
    return revision


def _read_policy(values: list[str]) -> dict[str, int]:
    from realtime.delivery.http.alert_documents import POLICY

    changes = {}
    for value in values:
        name, _, seconds = value.partition("=")
        if name not in POLICY or not (
            seconds.isascii() and seconds.isdecimal() and len(seconds) <= len("2678400")
        ):
            raise ConfigurationError([f"A value is NAME=SECONDS, and NAME one of {', '.join(POLICY)}."])
        changes[name] = int(seconds)
    return changes


def _print_policy(user: UUID | None, values: dict[str, int], *, as_json: bool) -> None:
    from queries.alert_calls import EVERY_ACCOUNT
    from realtime.delivery.http.alert_documents import EscalationDocument

    if as_json:
        print_json(EscalationDocument(user_id=str(user or EVERY_ACCOUNT), **values))
        return
    for name, seconds in values.items():
        print(f"{name:<24}{seconds:>8}")


def _line(alert: AlertRecord) -> str:
    about = " ".join(filter(None, (alert.severity, alert.kind, alert.subject)))
    acknowledged = (
        f"{alert.action} by {alert.acknowledged_by}" if alert.acknowledged_by else "not acknowledged"
    )
    resolved = f", resolved at {alert.resolved_at}" if alert.resolved_at else ""
    return (
        f"{alert.alert_id}  {about}  raised at {alert.first_raised_at} (generation {alert.generation},"
        f" {alert.occurrences} times)  level {alert.level}, {acknowledged}{resolved}"
    )


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
