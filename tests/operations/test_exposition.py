"""/metrics answers in Prometheus' text format, for all values."""

from __future__ import annotations

import math

import pytest

from realtime.metrics import Counter, Histogram, Metrics
from tests.operations.exposition import parse


def test_the_text_of_all_metrics_can_be_parsed() -> None:
    metrics = Metrics()
    metrics.closes.add(1, "4010")
    metrics.auth_failures.add(1, 'a "quoted"\\\nreason')
    metrics.state_age.set(math.inf)
    for seconds in (0.0, 0.001, 0.0011, 9.9, 11.0):
        metrics.push_latency.observe(seconds, times=2)
    families = parse(metrics.text())
    assert set(families) == {metric.name for metric in vars(metrics).values()}
    latency = families["guardwire_push_latency_seconds"].samples
    assert latency["guardwire_push_latency_seconds_bucket", (("le", "0.001"),)] == 4
    assert latency["guardwire_push_latency_seconds_count", ()] == 10
    assert latency["guardwire_push_latency_seconds_sum", ()] == pytest.approx(2 * 20.9021)
    assert families["guardwire_state_age_seconds"].samples["guardwire_state_age_seconds", ()] == math.inf


def test_a_count_of_many_digits_keeps_them_all() -> None:
    counter = Counter("guardwire_many_total", "Many.")
    counter.add(123_456_789)
    counter.add()
    assert list(counter.lines())[-1] == "guardwire_many_total 123456790"


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram("guardwire_things", "Things.", bounds=(1, 2))
    for value in (1, 1.5, 2, 3):
        histogram.observe(value)
    samples = parse("\n".join(histogram.lines()) + "\n")["guardwire_things"].samples
    counts = [count for (name, _), count in samples.items() if name.endswith("_bucket")]
    assert counts == [1, 3, 4]


HEAD = "# HELP a_total A.\n# TYPE a_total counter\n"


@pytest.mark.parametrize(
    "text",
    [
        "a_total 1\n",
        HEAD + "a_total 1",
        HEAD + "a_total one\n",
        HEAD + "a_total 1\na_total 2\n",
        HEAD + "b_total 1\n",
        HEAD + 'a_total{x="1" 1\n',
        HEAD + 'a_total{x="a"b"} 1\n',
        HEAD + HEAD,
        "# HELP a A.\n# TYPE a counter\na 1\n",
        '# HELP a A.\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n',
        '# HELP a A.\n# TYPE a histogram\na_bucket{le="1"} 1\na_sum 1\na_count 1\n',
    ],
)
def test_the_parser_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
