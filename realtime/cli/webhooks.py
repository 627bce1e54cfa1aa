"""`guardwire webhooks`: where alerts are delivered to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import typer

from realtime.cli.alerts import AnyUser, Json, print_json, run
from realtime.cli.database import read_database_settings
from realtime.cli.process import report_progress
from realtime.errors import ConfigurationError, NothingFound

if TYPE_CHECKING:
    from queries.alert_calls import Endpoint

EndpointId = Annotated[
    UUID, typer.Argument(help="The webhook's id, as `guardwire webhooks list` prints it.", metavar="ID")
]

_NOT_THERE = "There is no webhook of this id: `guardwire webhooks list` lists them."

webhooks: typer.Typer = typer.Typer(
    help="Webhooks and people: where alerts are delivered to.", no_args_is_help=True
)


@webhooks.command("list")
def list_(user: AnyUser = None, as_json: Json = False) -> None:
    """List webhooks and people, oldest first.

    Without --user, those that get the alerts of every account. The URLs of
    people may hold passwords; secrets of webhooks are never printed.

    [bold]Example[/bold]

    guardwire webhooks list --user 0e1550bf-b861-4cc3-875b-4b54a426f907
    """
    owner = _owner(user)

    async def work(driver: Any) -> list[Endpoint]:
        from queries.alert_calls import list_endpoints

        return await list_endpoints(driver, owner)

    found: list[Endpoint] = run("to list webhooks of", work)
    from realtime.delivery.http.alert_documents import EndpointList, endpoint_record

    records = [endpoint_record(endpoint) for endpoint in found]
    if as_json:
        print_json(EndpointList(user_id=str(owner), endpoints=records))
        return
    for each in records:
        disabled = f"  disabled: {each.disabled_reason or 'by hand'}" if each.disabled_at else ""
        note = f"  ({each.description})" if each.description else ""
        print(f"{each.endpoint_id}  {each.kind}  {each.url}{note}{disabled}")


@webhooks.command("show")
def show(endpoint: EndpointId, user: AnyUser = None, as_json: Json = False) -> None:
    """Print a webhook with the newest messages to it, newest first.

    [bold]Example[/bold]

    guardwire webhooks show c8d1e0a2-94a7-4c0e-8f53-2b7d6e5f4a31
    """
    owner = _owner(user)

    async def work(driver: Any) -> Any:
        from queries.alert_calls import list_deliveries

        return await _find(driver, owner, endpoint), await list_deliveries(driver, owner, endpoint)

    found, sent = run("to show a webhook of", work)
    from realtime.delivery.http.alert_documents import EndpointHistory, delivery_record, endpoint_record

    record, messages = endpoint_record(found), [delivery_record(each) for each in sent]
    if as_json:
        print_json(EndpointHistory(user_id=str(owner), endpoint=record, deliveries=messages))
        return
    print(f"{record.endpoint_id}  {record.kind}  {record.url}{'  disabled' if record.disabled_at else ''}")
    for each in messages:
        became = each.outcome or f"due at {each.due_at}"
        status = f", HTTP {each.last_status}" if each.last_status else ""
        print(
            f"  {each.delivery_id}  {each.created_at}  {each.message_id}  {became} ({each.attempts} attempts{status})"
        )


@webhooks.command("add")
def add(
    url: Annotated[
        str, typer.Argument(help="An https:// URL; for a person, an address of Apprise.", metavar="URL")
    ],
    user: AnyUser = None,
    kind: Annotated[Literal["webhook", "person"], typer.Option(help="Whom it reaches.")] = "webhook",
    description: Annotated[str | None, typer.Option(help="A note for people.")] = None,
    as_json: Json = False,
) -> None:
    """Deliver alerts to a URL, and print the secret that signs them.

    The secret is printed this once. Without --user, the alerts of every
    account are delivered there.

    [bold]Example[/bold]

    guardwire webhooks add https://desk.example/alerts --description "the desk"
    """
    owner = _owner(user)
    _check_url(kind, url)

    async def work(driver: Any) -> Endpoint:
        from queries.alert_calls import put_endpoint

        added = await put_endpoint(driver, owner, kind=kind, url=url, description=description)
        assert added is not None
        return await _find(driver, owner, added)

    made: Endpoint = run("to add a webhook to", work)
    _print_secret(made.endpoint_id, made.secrets[0] if made.secrets else None, as_json=as_json)


@webhooks.command("remove")
def remove(endpoint: EndpointId, user: AnyUser = None) -> None:
    """Delete a webhook.

    [bold]Example[/bold]

    guardwire webhooks remove c8d1e0a2-94a7-4c0e-8f53-2b7d6e5f4a31
    """
    owner = _owner(user)

    async def work(driver: Any) -> bool:
        from queries.alert_calls import delete_endpoint

        return await delete_endpoint(driver, owner, endpoint)

    if not run("to delete a webhook of", work):
        raise NothingFound(_NOT_THERE)
    report_progress(f"webhook {endpoint} deleted")


@webhooks.command("enable")
def enable(endpoint: EndpointId, user: AnyUser = None) -> None:
    """Deliver to a webhook again that was disabled, by hand or because it answered 410.

    [bold]Example[/bold]

    guardwire webhooks enable c8d1e0a2-94a7-4c0e-8f53-2b7d6e5f4a31
    """
    _set_enabled(endpoint, _owner(user), enabled=True)


@webhooks.command("disable")
def disable(endpoint: EndpointId, user: AnyUser = None) -> None:
    """Deliver nothing to a webhook until it is enabled.

    [bold]Example[/bold]

    guardwire webhooks disable c8d1e0a2-94a7-4c0e-8f53-2b7d6e5f4a31
    """
    _set_enabled(endpoint, _owner(user), enabled=False)


@webhooks.command("test")
def send_test_message(endpoint: EndpointId, user: AnyUser = None) -> None:
    """Have a node send a test message.

    `guardwire webhooks show` prints what became of it.

    [bold]Example[/bold]

    guardwire webhooks test c8d1e0a2-94a7-4c0e-8f53-2b7d6e5f4a31
    """
    owner = _owner(user)

    async def work(driver: Any) -> int | None:
        from queries.alert_calls import send_test

        delivery = await send_test(driver, owner, endpoint)
        if delivery is None:
            await _find(driver, owner, endpoint)
        return delivery

    delivery = run("to test a webhook of", work)
    if delivery is None:
        raise NothingFound("The webhook is disabled: `guardwire webhooks enable` it first.")
    report_progress(f"message {delivery} is sent within seconds by a node that runs")


@webhooks.command("rotate")
def rotate(endpoint: EndpointId, user: AnyUser = None, as_json: Json = False) -> None:
    """Give a webhook a new secret, and print it.

    Messages are signed with the secret before, too, until the next rotation.

    [bold]Example[/bold]

    guardwire webhooks rotate c8d1e0a2-94a7-4c0e-8f53-2b7d6e5f4a31
    """
    owner = _owner(user)

    async def work(driver: Any) -> str | None:
        from queries.alert_calls import rotate_secret

        secret = await rotate_secret(driver, owner, endpoint)
        if secret is None:
            await _find(driver, owner, endpoint)
        return secret

    secret = run("to rotate a secret of", work)
    if secret is None:
        raise NothingFound("Only a webhook has a secret.")
    _print_secret(endpoint, secret, as_json=as_json)


@webhooks.command("redeliver")
def redeliver(
    endpoint: EndpointId,
    delivery: Annotated[
        int,
        typer.Argument(
            help="The message's number, as `guardwire webhooks show` prints it.", metavar="NUMBER"
        ),
    ],
    user: AnyUser = None,
) -> None:
    """Send a finished message again, under the id that it had.

    A message is dropped where its alert was acknowledged or resolved since.

    [bold]Example[/bold]

    guardwire webhooks redeliver c8d1e0a2-94a7-4c0e-8f53-2b7d6e5f4a31 7
    """
    owner = _owner(user)

    async def work(driver: Any) -> bool:
        from queries.alert_calls import redeliver

        return await redeliver(driver, owner, endpoint, delivery)

    if not run("to send a message of", work):
        raise NothingFound("There is no finished message of this number to this webhook.")
    report_progress(f"message {delivery} is sent within seconds by a node that runs")


def _owner(user: UUID | None) -> UUID:
    from queries.alert_calls import EVERY_ACCOUNT

    return user or EVERY_ACCOUNT


async def _find(driver: Any, owner: UUID, endpoint: UUID) -> Endpoint:
    from queries.alert_calls import list_endpoints

    found = await list_endpoints(driver, owner, endpoint=endpoint)
    if not found:
        raise NothingFound(_NOT_THERE)
    return found[0]


def _check_url(kind: str, url: str) -> None:
    from realtime.escalation import addresses, people

    allow_private = read_database_settings("to add a webhook to").webhook_allow_private
    problem = (
        people.url_problem(url)
        if kind == "person"
        else addresses.url_problem(url, allow_private=allow_private)
    )
    if problem is not None:
        raise ConfigurationError([f"The URL {problem}."])


def _set_enabled(endpoint: UUID, owner: UUID, *, enabled: bool) -> None:
    async def work(driver: Any) -> UUID | None:
        from queries.alert_calls import put_endpoint

        return await put_endpoint(driver, owner, endpoint=endpoint, enabled=enabled)

    if run("to change a webhook of", work) is None:
        raise NothingFound(_NOT_THERE)
    report_progress(f"webhook {endpoint} {'enabled' if enabled else 'disabled'}")


def _print_secret(endpoint: UUID, secret: str | None, *, as_json: bool) -> None:
    if as_json:
        from realtime.delivery.http.alert_documents import EndpointSecret

        print_json(EndpointSecret(endpoint_id=str(endpoint), secret=secret))
        return
    report_progress(f"webhook {endpoint}; its secret is printed this once")
    print(secret or endpoint)
