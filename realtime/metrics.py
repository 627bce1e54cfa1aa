"""The metrics of one process, in Prometheus' names and base units. No user ever appears in a label."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

#: Upper bounds of a number of attempts.
ATTEMPTS: Final = (1, 2, 3, 4, 5, 7, 10, 20, 50)
#: Upper bounds in seconds, for what should take milliseconds and may take seconds.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


#: Upper bounds in seconds, for what people and bots do.
REACTION_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 900, 3600)


class Counter:
    """A number that only grows, split by the values of one label when it has one."""

    def __init__(self, name: str, meaning: str, label: str | None = None) -> None:
        self.name, self.meaning, self.label = name, meaning, label
        self._values: dict[str, float] = {} if label else {"": 0.0}

    def add(self, amount: float = 1, value: str = "") -> None:
        """Count ``amount`` more, under the label's ``value`` where there is a label."""
        self._values[value] = self._values.get(value, 0) + amount

    def get(self, value: str = "") -> float:
        """The count under the label's ``value``."""
        return self._values.get(value, 0)

    def lines(self) -> Iterator[str]:
        """In Prometheus' text format."""
        yield f"# HELP {self.name} {self.meaning}"
        yield f"# TYPE {self.name} {'counter' if self.name.endswith('_total') else 'gauge'}"
        # A copy, made in one step: threads count too.
        for value, count in tuple(self._values.items()):
            labels = f'{{{self.label}="{_escaped(value)}"}}' if self.label else ""
            yield f"{self.name}{labels} {_number(count)}"


class Gauge(Counter):
    """A number that goes up and down."""

    def set(self, value: float, of: str = "") -> None:
        """It is ``value`` now, under the label's value ``of`` where there is a label."""
        self._values[of] = value


class Histogram:
    """How often a value was at most so much; ``bounds`` are the buckets' upper bounds, in rising order."""

    label = None

    def __init__(self, name: str, meaning: str, bounds: Sequence[float] = SECONDS) -> None:
        self.name, self.meaning = name, meaning
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """``value`` was seen ``times`` times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def get(self) -> int:
        """How many values were seen."""
        return sum(self._counts)

    def lines(self) -> Iterator[str]:
        """In Prometheus' text format."""
        yield f"# HELP {self.name} {self.meaning}"
        yield f"# TYPE {self.name} histogram"
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            yield f'{self.name}_bucket{{le="{_number(bound)}"}} {total}'
        yield f"{self.name}_sum {_number(self._sum)}"
        yield f"{self.name}_count {total}"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Metrics:
    """Everything that one process counts."""

    def __init__(self) -> None:
        self.watched_accounts = Gauge(
            "guardwire_watched_accounts", "Accounts that somebody is watching on this node."
        )
        self.sockets = Gauge("guardwire_sockets", "Open WebSocket connections.")
        self.anonymous_sockets = Gauge(
            "guardwire_anonymous_sockets", "Open WebSocket connections that have not said yet whose they are."
        )
        self.anonymous_refused = Counter(
            "guardwire_anonymous_refused_total",
            "WebSocket handshakes refused because too many such were open, of one `address` or in `all`.",
            "cap",
        )
        self.event_streams = Gauge("guardwire_event_streams", "Open Server-Sent Events streams.")
        self.long_polls = Gauge("guardwire_long_polls", "Long polls that are waiting.")
        self.push_latency = Histogram(
            "guardwire_push_latency_seconds",
            "From a commit to the last of its account's sockets being written to, by the database's clock and"
            " this node's; once for each client.",
        )
        self.state_age = Gauge(
            "guardwire_state_age_seconds",
            "Time since the state of the least fresh watched account was last known to be the newest.",
        )
        self.loop_lag = Histogram(
            "guardwire_loop_lag_seconds",
            "How much later than asked for the event loop ran a timer, four times a second.",
        )
        self.evaluated = Counter("guardwire_evaluations_total", "Accounts evaluated.")
        self.followed = Counter("guardwire_followed_total", "Changes published from deltas, without a read.")
        self.evaluation_batches = Counter(
            "guardwire_evaluation_statements_total", "Evaluation statements run."
        )
        self.evaluation_failures = Counter(
            "guardwire_evaluation_failures_total", "Accounts whose evaluation failed."
        )
        self.updates = Counter("guardwire_frames_total", "Frames sent, by type.", "type")
        self.resyncs = Counter(
            "guardwire_resyncs_total",
            "Snapshots sent where updates were expected, by cause: `requested` by the client, `history` that"
            " does not reach back, another `epoch`.",
            "cause",
        )
        self.moves = Counter(
            "guardwire_moves_total", "WebSockets that were asked to move to a node with fewer clients."
        )
        self.closes = Counter("guardwire_closes_total", "Streams closed by the server, by code.", "code")
        self.sweeps = Counter("guardwire_sweeps_total", "Sweeps completed.")
        self.sweep_found = Counter(
            "guardwire_sweep_found_missed_total",
            "Changes whose notification was lost and that a sweep found.",
        )
        self.canary_misses = Counter(
            "guardwire_canary_missed_total", "Self-notifications that were not heard in time."
        )
        self.canary_round_trip = Gauge(
            "guardwire_canary_round_trip_seconds", "How long the last self-notification that was heard took."
        )
        self._count_standby()
        self.listener_up = Gauge("guardwire_listener_up", "1 while the listener hears its own canary.")
        self._count_relay()
        self._count_checks()
        self._count_redis()
        self._count_alerts()
        self._count_deliveries()
        self._count_faults()

    def _count_relay(self) -> None:
        """Changes that go through Redis instead of NOTIFY."""
        self.relay_heard = Gauge(
            "guardwire_relay_heard", "1 while this node hears the relay's canary; 0 also without a relay."
        )
        self.relay_published = Counter(
            "guardwire_relay_published_total", "Changes that this node, as the applier, published to Redis."
        )
        self.relay_dropped = Counter(
            "guardwire_relay_dropped_total",
            "Changes that the applier did not publish to Redis, because it was away or too slow.",
        )

    def _count_standby(self) -> None:
        """How a node reads a standby."""
        self.standby = Gauge("guardwire_standby", "1 while DATABASE_URL is a standby of the primary.")
        self.primary_up = Gauge(
            "guardwire_primary_up", "0 while a node that reads a standby cannot write to the primary."
        )
        self.replay_lag = Gauge(
            "guardwire_replay_lag_seconds", "Since when the standby lacks a commit of the primary."
        )

    def _count_faults(self) -> None:
        """Events that should not happen, or seldom."""
        self.epoch_raises = Counter(
            "guardwire_epoch_raises_total", "Times that the database's history was found to have changed."
        )
        self.cross_user_blocked = Counter(
            "guardwire_cross_user_blocked_total", "Another user's data stopped before it was sent."
        )
        self.task_deaths = Counter(
            "guardwire_task_failures_total",
            "Background tasks that failed and were restarted, by task.",
            "task",
        )
        self.auth_failures = Counter(
            "guardwire_authentication_failures_total", "Refused tokens, by reason.", "reason"
        )
        self.slow_readers = Counter(
            "guardwire_slow_readers_total", "Sockets that took nothing until the send deadline."
        )
        self.log_lines_lost = Counter(
            "guardwire_log_lines_lost_total", "Log lines that could not be written."
        )

    def _count_alerts(self) -> None:
        """Alerts of all accounts, and who attends these."""
        self.alerts_open = Gauge(
            "guardwire_alerts_open", "Alerts that are not resolved, of all accounts; every 15 s."
        )
        self.alerts_unacknowledged = Gauge(
            "guardwire_alerts_unacknowledged",
            "Alerts that nobody has acknowledged, of all accounts, with those that are over; every 15 s.",
        )
        self.alerts_overdue = Gauge(
            "guardwire_alerts_overdue",
            "Alerts that are neither resolved nor acknowledged beyond their deadline, of all accounts; every 15 s.",
        )
        self.acknowledgement_seconds = Histogram(
            "guardwire_acknowledgement_seconds",
            "From the raise of an alert to its acknowledgement by this node, by the database's clock.",
            REACTION_SECONDS,
        )
        self.armed_accounts = Gauge(
            "guardwire_armed_accounts", "Accounts that somebody has to attend; every 15 s."
        )
        self.attended_accounts = Gauge(
            "guardwire_attended_accounts", "Armed accounts that a bot attends; every 15 s."
        )

    def _count_deliveries(self) -> None:
        """Alerts that are sent to webhooks and people."""
        self.deliveries = Counter(
            "guardwire_deliveries_total",
            "Attempts to send an alert to a webhook or a person, by outcome: `delivered`, `failed`, or `gone`"
            " for a webhook that wants no more.",
            "outcome",
        )
        self.delivery_attempts = Histogram(
            "guardwire_delivery_attempts", "At which attempt a delivery succeeded.", ATTEMPTS
        )
        self.delivery_seconds = Histogram(
            "guardwire_delivery_seconds", "How long an attempt to send an alert took."
        )
        self.outbox_oldest = Gauge(
            "guardwire_outbox_oldest_seconds",
            "For how long the delivery that has been due for longest has waited, when the outbox was last"
            " read; every 10 s at least.",
        )
        self.watchdog_up = Gauge(
            "guardwire_watchdog_up",
            "1 when the last turn of the watchdog found everything at work and called its URL.",
        )

    def _count_redis(self) -> None:
        """Writes to Redis, and whether it takes them."""
        self.stored = Counter(
            "guardwire_snapshot_commits_total", "Compare-and-set results in Redis, by result.", "result"
        )
        self.redis_up = Gauge("guardwire_redis_up", "1 while Redis takes writes; 0 also where none is used.")
        self.redis_configured = Gauge("guardwire_redis_configured", "1 where this node is to use Redis.")
        self.redis_slots_lost = Gauge(
            "guardwire_redis_slots_lost",
            "Slots of a Redis Cluster that no server serves; their accounts are not remembered.",
        )

    def _count_inbox(self) -> None:
        """The applier's work; every process has these, and some move in the applier alone."""
        self.applier_term = Gauge(
            "guardwire_applier_term",
            "Term of the applier's lease that this process holds; 0 while it holds none.",
        )
        self.applier_held = Gauge(
            "guardwire_applier_held",
            "1 while this or another process holds the applier's lease, as this node last saw it.",
        )
        self.applied_rows = Counter("guardwire_applied_rows_total", "Rows of the inbox that were applied.")
        self.batches = Counter("guardwire_batches_total", "Batches of the inbox that were applied.")
        self.set_aside_rows = Counter(
            "guardwire_set_aside_total", "Rows of the inbox that could not be applied."
        )
        self.inbox_rows = Gauge(
            "guardwire_inbox_rows", "Rows that wait in the inbox, counted up to 100,000; every 5 s."
        )
        self.inbox_oldest = Gauge(
            "guardwire_inbox_oldest_seconds", "Age of the oldest row that waits in the inbox; every 5 s."
        )
        self.inbox_delay = Histogram(
            "guardwire_inbox_delay_seconds",
            "From the statement that wrote the oldest row of a batch to the end of the batch, by the database's"
            " clock.",
        )
        self.set_aside_now = Gauge(
            "guardwire_set_aside_rows", "Rows that could not be applied; their accounts are stale. Every 5 s."
        )
        self.unread_accounts = Gauge(
            "guardwire_unread_accounts",
            "Accounts whose history has not been read; they are stale. Every 5 s.",
        )
        self.clocks_off = Gauge(
            "guardwire_clocks_off_accounts",
            "Accounts whose platform's clock is off by more than a minute. Every 5 s.",
        )
        self.doubted_accounts = Gauge(
            "guardwire_doubted_accounts",
            "Accounts whose platform's clock may have gone back; they are stale. Every 5 s.",
        )
        self.forged_notifications = Counter(
            "guardwire_forged_notifications_total",
            "Notifications on the delta channel, and messages of the relay, that were not authentic.",
        )

    def _count_checks(self) -> None:
        """The server's checks of itself."""
        self._count_inbox()
        self.audits = Counter(
            "guardwire_audits_total", "Watched accounts compared with their raw log, by result.", "result"
        )
        self.disputed_accounts = Gauge(
            "guardwire_suspect_accounts",
            "Watched accounts that an audit found different; their clients get `stale`.",
        )
        self.self_test_failed = Gauge(
            "guardwire_self_test_failed", "1 for a check of the start-up self-test that failed.", "check"
        )
        self.clock_skew = Gauge(
            "guardwire_clock_skew_seconds", "The database's clock minus this machine's, at the start."
        )

    def text(self) -> str:
        """All of them, in Prometheus' text format."""
        return "\n".join(line for metric in vars(self).values() for line in metric.lines()) + "\n"


METRICS = Metrics()
