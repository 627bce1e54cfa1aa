"""What is counted: one object, one line each, in Prometheus' names and base units; no user ever appears in a
label.
"""

from __future__ import annotations

from collections.abc import Iterator


class Counter:
    """A number that only grows, split by the values of one label when it has one."""

    def __init__(self, name: str, meaning: str, label: str | None = None) -> None:
        self.name, self.meaning, self.label = name, meaning, label
        self._values: dict[str, float] = {} if label else {"": 0.0}

    def add(self, amount: float = 1, value: str = "") -> None:
        """Count ``amount`` more, under the label's ``value`` where there is a label."""
        self._values[value] = self._values.get(value, 0) + amount

    def get(self, value: str = "") -> float:
        """What was counted under ``value``."""
        return self._values.get(value, 0)

    def lines(self) -> Iterator[str]:
        """In Prometheus' text format."""
        yield f"# HELP {self.name} {self.meaning}"
        yield f"# TYPE {self.name} {'counter' if self.name.endswith('_total') else 'gauge'}"
        for value, count in self._values.items():
            yield (
                f'{self.name}{{{self.label}="{value}"}} {count:g}' if self.label else f"{self.name} {count:g}"
            )


class Gauge(Counter):
    """A number that goes up and down."""

    def set(self, value: float) -> None:
        """It is ``value`` now."""
        self._values[""] = value


class Metrics:
    """Everything that one process counts."""

    def __init__(self) -> None:
        self.watched_accounts = Gauge(
            "guardwire_watched_accounts", "Accounts that somebody is watching on this node."
        )
        self.sockets = Gauge("guardwire_sockets", "Open WebSocket connections.")
        self.evaluated = Counter("guardwire_evaluations_total", "Accounts evaluated.")
        self.evaluation_batches = Counter(
            "guardwire_evaluation_statements_total", "Evaluation statements run."
        )
        self.evaluation_failures = Counter(
            "guardwire_evaluation_failures_total", "Accounts whose evaluation failed."
        )
        self.updates = Counter("guardwire_frames_total", "Frames sent, by type.", "type")
        self.closes = Counter("guardwire_closes_total", "Streams closed by the server, by code.", "code")
        self.sweeps = Counter("guardwire_sweeps_total", "Sweeps completed.")
        self.sweep_found = Counter(
            "guardwire_sweep_found_missed_total", "Changes that no notification told of and a sweep found."
        )
        self.canary_misses = Counter(
            "guardwire_canary_missed_total", "Self-notifications that were not heard in time."
        )
        self.listener_up = Gauge("guardwire_listener_up", "1 while the listener hears its own canary.")
        self.stored = Counter(
            "guardwire_snapshot_commits_total", "Compare-and-set results in Redis, by result.", "result"
        )
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

    def text(self) -> str:
        """All of them, in Prometheus' text format."""
        return "\n".join(line for metric in vars(self).values() for line in metric.lines()) + "\n"


METRICS = Metrics()
