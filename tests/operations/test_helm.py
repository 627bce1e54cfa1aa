"""The chart in `deploy/helm/guardwire`: what its values name exists here, and what it renders keeps its promises."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

import guardwire
from realtime.delivery.http.poll import MAX_WAIT_SECONDS
from realtime.delivery.server.server import EXIT_SECONDS
from realtime.settings import SETTINGS

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/guardwire"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
NAMES = {setting.variable for setting in SETTINGS.values()}
#: Everything that can be turned on.
EVERYTHING = (
    "image.repository=registry.example/guardwire", "ingress.enabled=true", "ingress.host=guardwire.example",
    "ingress.tlsSecretName=guardwire-tls", "autoscaling.enabled=true", "serviceMonitor.enabled=true",
    "serviceMonitor.labels.release=prometheus", "settings.GUARDWIRE_GRAPHQL=on",
    "networkPolicy.egress[0].ports[0].port=5432", "imagePullSecrets[0].name=registry",
)  # fmt: skip


def test_the_chart_is_of_this_release_and_names_settings_that_exist() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["appVersion"] == guardwire.__version__
    assert set(VALUES["settings"]) | set(VALUES["secrets"]) <= NAMES


def test_secrets_are_references_and_no_value_holds_one() -> None:
    assert {"DATABASE_URL", "REDIS_URL"} <= VALUES["secrets"].keys()
    assert not {"DATABASE_URL", "REDIS_URL", "GUARDWIRE_JWT_SECRET"} & VALUES["settings"].keys()
    for reference in (*VALUES["secrets"].values(), VALUES["migration"]["secret"]):
        assert reference.keys() == {"name", "key"}


def test_a_node_has_the_time_to_drain_before_it_is_killed() -> None:
    deployment = (CHART / "templates/deployment.yaml").read_text("utf-8")
    (waits,) = re.findall(r"time\.sleep\((\d+)\)", deployment)
    assert VALUES["terminationGracePeriodSeconds"] > EXIT_SECONDS + int(waits)


@pytest.mark.parametrize("limit", ["proxy-read-timeout", "proxy-send-timeout"])
def test_the_ingress_cuts_no_quiet_stream_and_no_long_poll(limit: str) -> None:
    annotations = VALUES["ingress"]["annotations"]
    assert int(annotations[f"nginx.ingress.kubernetes.io/{limit}"]) > MAX_WAIT_SECONDS + 10
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"


# The manifests that Helm makes.


def rendered(*values: str) -> dict[str, dict[str, Any]]:
    """The manifests by their kinds."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not installed")
    settings = [word for value in values for word in ("--set", value)]
    done = subprocess.run(
        # Helm supposes an old Kubernetes where it was built without a version of its own.
        ["helm", "template", "release", str(CHART), "--kube-version", "1.29.0", *settings],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {each["kind"]: each for each in yaml.safe_load_all(done.stdout) if each}


def test_everything_is_rendered_and_nothing_is_a_secret() -> None:
    kinds = {
        "Deployment", "Job", "Service", "Ingress", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy",
        "ServiceMonitor",
    }  # fmt: skip
    assert rendered(*EVERYTHING).keys() == kinds


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_a_container_is_nobody_and_writes_nowhere(kind: str) -> None:
    pod = rendered(*EVERYTHING)[kind]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all({"name", "value"} == each.keys() or "valueFrom" in each for each in container["env"])
    assert {each["name"] for each in container["env"]} <= NAMES


def test_the_node_does_not_know_the_login_that_migrates() -> None:
    manifests = rendered(*EVERYTHING)
    assert "guardwire-migrator" in json.dumps(manifests["Job"])
    assert "guardwire-migrator" not in json.dumps(manifests["Deployment"])
    assert manifests["Job"]["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_metrics_and_readiness_are_not_for_the_world() -> None:
    (rule,) = rendered(*EVERYTHING)["Ingress"]["spec"]["rules"]
    paths = {path["path"]: path["pathType"] for path in rule["http"]["paths"]}
    assert paths["/"] == "Exact"
    assert not {"/metrics", "/readyz"} & paths.keys()
    assert {"/ws", "/api", "/static", "/graphql"} <= paths.keys()
