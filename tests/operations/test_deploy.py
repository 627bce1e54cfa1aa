"""The names in `deploy/` and the runbook exist: settings, metrics, commands, messages and paths."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]

from realtime.cli import application
from realtime.delivery.server.deadlines import HttpTiming
from realtime.delivery.server.request_heads import HEAD_BYTES
from realtime.delivery.server.server import EXIT_SECONDS
from realtime.metrics import Histogram, Metrics
from realtime.settings import SETTINGS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RUNBOOK = ROOT / "docs/runbook.md"
FILES = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()]
NAMED = [*FILES, RUNBOOK]
#: Roles of the database whose names look like metrics.
ROLES = {"guardwire_inbox", "guardwire_platform", "guardwire_server"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def sample_names() -> set[str]:
    """The names in a scrape."""
    found = set()
    for metric in vars(Metrics()).values():
        suffixes = ("", "_bucket", "_sum", "_count") if isinstance(metric, Histogram) else ("",)
        found |= {metric.name + suffix for suffix in suffixes}
    return found


@pytest.mark.parametrize("path", NAMED, ids=name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    known = {setting.variable for setting in SETTINGS.values()}
    text = path.read_text("utf-8")
    named = set(re.findall(r"\b(?:GUARDWIRE_[A-Z_]+|[A-Z_]*DATABASE_[A-Z]+|REDIS_URL)\b", text))
    assert named - known - {"GUARDWIRE_"} == set()


@pytest.mark.parametrize("path", NAMED, ids=name)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"\bguardwire_[a-z_]+\b", path.read_text("utf-8")))
    assert named - sample_names() - ROLES == set()


def test_the_dashboard_shows_every_metric() -> None:
    dashboard = json.loads((DEPLOY / "grafana/guardwire.json").read_text("utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    shown = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    missing = [m.name for m in vars(Metrics()).values() if not re.search(rf"\b{m.name}(_bucket)?\b", shown)]
    assert missing == []
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert 0 <= panel["gridPos"]["x"] <= 24 - panel["gridPos"]["w"]


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings on GitHub."""
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_alert_leads_to_its_place_in_the_runbook() -> None:
    document = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text("utf-8"))
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert ROOT / path == RUNBOOK
        assert anchor in anchors(RUNBOOK.read_text("utf-8")), rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+[sm]", rule["for"])
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_every_link_in_the_runbook_leads_somewhere() -> None:
    text = RUNBOOK.read_text("utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert (RUNBOOK.parent / path).exists()
        assert path or anchor in anchors(text)


def parameters(command: Any) -> Iterator[list[str]]:
    """The spellings of each option of a command, or of a group's commands."""
    for each in command.params:
        yield [*each.opts, *each.secondary_opts]
    for inner in getattr(command, "commands", {}).values():
        yield from parameters(inner)


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(application)
    return dict(group.commands)


def test_every_command_that_is_named_exists_with_its_options() -> None:
    text = "\n".join(path.read_text("utf-8") for path in (RUNBOOK, ROOT / "OPERATIONS.md"))
    named = re.findall(r"`guardwire ([a-z]+)((?: [^`]+)?)`", text)
    assert len(named) > 8
    for command, rest in named:
        options = {option for each in parameters(commands()[command]) for option in each}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, command


def constants() -> Iterator[str]:
    """Every text in the program, with its gaps as in the runbook."""
    folders = [(ROOT / folder).rglob("*.py") for folder in ("auth", "guardwire", "queries", "realtime")]
    for path in (ROOT / "app.py", *(path for paths in folders for path in paths)):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[.\d]*[a-z]", "…", node.value)


def test_every_message_that_the_runbook_quotes_is_said() -> None:
    quoted = re.findall(r"`([a-zA-Z][a-z]+ [^`=(\"/]+)`", RUNBOOK.read_text("utf-8"))
    ours = [text for text in quoted if not re.match(r"(guardwire|redis-cli|systemctl|docker) ", text)]
    said = list(constants())
    assert [text for text in ours if not any(text in each for each in said)] == []
    assert len(ours) >= 9


def test_the_image_is_made_from_the_lock_and_runs_as_nobody_in_particular() -> None:
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    assert {line.split()[1] for line in lines if line.startswith("FROM")} == {"python:3.13.9-slim-bookworm"}
    install = next(line for line in lines if "pip install" in line)
    assert "--require-hashes" in install
    assert "ARG LOCK=requirements.lock" in lines
    assert '-r "/tmp/$LOCK"' in install
    last_stage = lines[max(index for index, line in enumerate(lines) if line.startswith("FROM")) :]
    assert [line for line in last_stage if line.startswith("USER")] == ["USER 10001:10001"]
    assert any(line.startswith("HEALTHCHECK") and "/livez" in line for line in last_stage)
    copied = {line.split()[1] for line in lines if line.startswith("COPY") and "--from" not in line}
    locks = {"requirements.lock", "requirements-graphql.lock", "requirements-notify.lock"}
    assert copied == {"app.py", "auth", "guardwire", "queries", "realtime", "static"} | locks
    allowed = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert copied == {line[1:] for line in allowed if line.startswith("!")}
    assert 'ENTRYPOINT ["python", "-m", "realtime.cli"]' in last_stage


def test_the_composition_hangs_together() -> None:
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    services = document["services"]
    proxy = services["proxy"]["networks"]["inside"]["ipv4_address"]
    for each in services.values():
        assert set(each.get("depends_on", ())) <= services.keys()
        assert "." not in each["image"].partition("/")[0].partition(":")[0], "an image of another registry"
        if "build" not in each:
            assert re.search(r":\d+\.\d+(\.\d+)?-", each["image"]), "an image without its full version"
    nodes = [each for key, each in services.items() if key.startswith("guardwire-")]
    assert len(nodes) == 2
    for node in nodes:
        assert node["environment"]["GUARDWIRE_TRUSTED_PROXIES"] == proxy
        assert int(node["stop_grace_period"].removesuffix("s")) > EXIT_SECONDS
        assert "ports" not in node
        context = DEPLOY / node["build"]["context"]
        assert (context / node["build"]["dockerfile"]).is_file()
    upstreams = re.findall(r"server (\S+):8000", (DEPLOY / "nginx.conf").read_text("utf-8"))
    targets = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text("utf-8"))
    scraped = targets["scrape_configs"][0]["static_configs"][0]["targets"]
    assert {f"{each}:8000" for each in upstreams} == set(scraped)
    assert set(upstreams) == {key for key in services if key.startswith("guardwire-")}
    assert [(DEPLOY / "prometheus" / file).is_file() for file in targets["rule_files"]] == [True]


def test_the_proxy_ends_quiet_connections_before_a_node_does_and_takes_heads_as_long() -> None:
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    (seconds,) = re.findall(r"^ +keepalive_timeout (\d+)s;", text, re.MULTILINE)
    idle_seconds = HttpTiming().idle_seconds
    assert int(seconds) + 10 <= idle_seconds
    assert f"{idle_seconds:g} seconds" in (ROOT / "OPERATIONS.md").read_text("utf-8")
    ((count, kilobytes),) = re.findall(r"large_client_header_buffers (\d+) (\d+)k;", text)
    assert int(count) * int(kilobytes) * 1024 == HEAD_BYTES
    haproxy = (DEPLOY / "haproxy.cfg").read_text("utf-8")
    (size,), (kept,) = (re.findall(rf"tune\.{name} (\d+)", haproxy) for name in ("bufsize", "maxrewrite"))
    assert int(size) - int(kept) == HEAD_BYTES
    # Every interval HAProxy ends half of the quiet connections, so few live for longer than two.
    assert 2 * int(re.findall(r"pool-purge-delay (\d+)s", haproxy)[0]) + 10 <= idle_seconds
    caddy = (DEPLOY / "Caddyfile").read_text("utf-8")
    assert int(re.findall(r"\tkeepalive (\d+)s", caddy)[0]) + 10 <= idle_seconds
    assert int(re.findall(r"max_header_size (\d+)KB", caddy)[0]) * 1024 <= HEAD_BYTES


def unit() -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(DEPLOY / "guardwire.service")
    return found


def test_the_unit_leaves_time_to_see_clients_off() -> None:
    service = unit()["Service"]
    assert int(service["TimeoutStopSec"]) > EXIT_SECONDS
    assert service["KillSignal"] == "SIGTERM"
    assert service["ExecStart"].endswith("-m realtime.cli serve")
    assert int(service["LimitNOFILE"]) >= 65_536


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_understands_the_unit_and_finds_it_confined(tmp_path: Path) -> None:
    copy = tmp_path / "guardwire.service"
    text = (DEPLOY / "guardwire.service").read_text("utf-8")
    copy.write_text(text.replace("/opt/guardwire/.venv/bin/python", sys.executable), "utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-300:]


def test_no_alert_fires_where_its_part_is_not_used() -> None:
    """A node without Redis reports 0 for Redis, and every node sees the lease of an applier that is not scraped."""
    document = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text("utf-8"))
    rules = {rule["alert"]: rule["expr"] for group in document["groups"] for rule in group["rules"]}
    assert (
        rules["GuardwireRedisDown"]
        == "guardwire_redis_up == 0 and on (instance) guardwire_redis_configured == 1"
    )
    assert rules["GuardwireNoApplier"] == "max(guardwire_applier_held) == 0"
    assert not [alert for alert, expression in rules.items() if "guardwire_applier_term" in expression]
