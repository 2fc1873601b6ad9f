"""The manifests, rendered as kubectl renders them: schemas, drain times, rights, names."""

import copy
import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from server.process.draining import LAME_DUCK_SECONDS, TAKEN_SECONDS
from server.scoring.in_flight import WAITING_SHARE
from server.settings import Settings
from server.version import VERSION
from tests.support.foreign_clients import foreign_python
from tests.support.servers import system_tool

pytestmark = pytest.mark.whole

FOLDER = Path("deploy/kubernetes")
RENDERED = ("base", "overlays/monitored", "overlays/profiling", "overlays/exposed", "kserve")
CUSTOM = ("PodMonitor", "PrometheusRule", "ServingRuntime", "InferenceService")
Document = dict[str, Any]


def render(name: str) -> list[Document]:
    """The documents of a kustomization."""
    tool = ["kubectl", "kustomize"] if shutil.which("kubectl") else [system_tool("kustomize"), "build"]
    done = subprocess.run([*tool, str(FOLDER / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Document]]:
    return {name: render(name) for name in RENDERED}


def one(documents: list[Document], kind: str) -> Document:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def pods(rendered: dict[str, list[Document]]) -> Iterator[Document]:
    """Every pod that a manifest describes."""
    for documents in rendered.values():
        for document in documents:
            if document["kind"] == "Deployment":
                yield document["spec"]["template"]["spec"]
            elif document["kind"] == "ServingRuntime":
                service = one(documents, "InferenceService")["spec"]["predictor"]
                yield document["spec"] | {k: v for k, v in service.items() if k != "model"}


@pytest.mark.parametrize("name", RENDERED)
def test_manifests_are_valid_in_every_field(rendered: dict[str, list[Document]], name: str) -> None:
    import kubernetes_validate  # here: the formats it loads build 39 grammars, for 4 s of CPU

    documents = [d for d in rendered[name] if d["kind"] not in CUSTOM]
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    assert documents or name == "kserve"


def complain(documents: list[Document]) -> list[list[str]]:
    """What other people's models say of each custom resource."""
    command = [foreign_python(), "tests/foreign/custom_resources.py"]
    done = subprocess.run(command, input=json.dumps(documents), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_custom_resources_are_valid_and_a_mistake_in_one_is_found(
    rendered: dict[str, list[Document]],
) -> None:
    custom = [d for documents in rendered.values() for d in documents if d["kind"] in CUSTOM]
    assert sorted(d["kind"] for d in custom) == sorted(CUSTOM)
    wrong = {document["kind"]: copy.deepcopy(document) for document in custom}
    wrong["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["pth"] = "/metrics"
    wrong["PrometheusRule"]["spec"]["groups"][0]["rules"][0]["exprr"] = "1"
    wrong["ServingRuntime"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "8080"
    del wrong["InferenceService"]["spec"]["predictor"]["model"]["modelFormat"]
    found = complain([*custom, *wrong.values()])
    assert found[: len(custom)] == [[] for _ in custom]
    assert all(found[len(custom) :]), found


def test_a_stop_fits_into_the_grace_period(rendered: dict[str, list[Document]]) -> None:
    settings = _settings(rendered["base"])
    lame_duck = LAME_DUCK_SECONDS + 2 * TAKEN_SECONDS
    for pod in pods(rendered):
        (server,) = [c for c in pod["containers"] if "profiler" not in c["image"]]
        before = server["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert before >= 5
        assert pod["terminationGracePeriodSeconds"] > math.ceil(before + lame_duck + settings.drain_seconds)


def test_idle_connections_outlive_those_of_a_load_balancer(rendered: dict[str, list[Document]]) -> None:
    """Those of the clouds close an idle connection after 60 s; the server may not be first."""
    assert _settings(rendered["base"]).keep_alive_seconds > 60


def _settings(documents: list[Document]) -> Settings:
    """The settings that the pods get; one that is unknown is refused here as it is there."""
    return Settings.read(one(documents, "ConfigMap")["data"])


def test_the_log_stays_below_the_size_at_which_a_pod_is_evicted(rendered: dict[str, list[Document]]) -> None:
    pod = one(rendered["base"], "Deployment")["spec"]["template"]["spec"]
    (limit,) = [v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if v["name"] == "logs"]
    assert 0 < _settings(rendered["base"]).log_total_bytes <= int(limit.removesuffix("Gi")) * 2**30 / 2


def test_kubernetes_sets_no_variable_that_is_a_setting_of_ours(rendered: dict[str, list[Document]]) -> None:
    """For each service NAME it would set NAME_PORT and more: HOTROW_PORT=tcp://10.0.0.1:80."""
    for pod in pods(rendered):
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False


def test_containers_have_no_rights_but_the_profiler_one(rendered: dict[str, list[Document]]) -> None:
    added = []
    for pod in pods(rendered):
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"]["drop"] == ["ALL"]
            added += context["capabilities"].get("add", [])
            if "profiler" not in container["image"]:
                assert (pod["securityContext"] | context)["runAsUser"] == 1000
                assert (pod["securityContext"] | context)["runAsNonRoot"] is True
    assert added == ["SYS_PTRACE"]


def test_every_writable_folder_is_a_volume_and_memory_and_disk_are_limited_but_not_cpu(
    rendered: dict[str, list[Document]],
) -> None:
    for pod in pods(rendered):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            asked, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert asked == {"cpu": "1", **limits}
            assert set(limits) == {"memory", "ephemeral-storage"}


def test_exposed_lets_the_controller_in_and_keeps_metrics_inside(rendered: dict[str, list[Document]]) -> None:
    documents = rendered["overlays/exposed"]
    ingress = one(documents, "Ingress")["spec"]
    assert ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]]
    paths = {path["path"]: path["backend"]["service"] for path in ingress["rules"][0]["http"]["paths"]}
    assert {"/predict", "/v2", "/models", "/explain"} <= set(paths)
    assert not {"/", "/metrics", "/history"} & set(paths)
    service = one(documents, "Service")
    assert {s["name"] for s in paths.values()} == {service["metadata"]["name"]}
    assert {s["port"]["name"] for s in paths.values()} == {p["name"] for p in service["spec"]["ports"]}
    (rule,) = one(documents, "NetworkPolicy")["spec"]["ingress"]
    namespaces = [peer.get("namespaceSelector", {}).get("matchLabels") for peer in rule["from"]]
    assert {"kubernetes.io/metadata.name": "ingress-nginx"} in namespaces


def test_the_three_probes_ask_what_the_server_answers(rendered: dict[str, list[Document]]) -> None:
    for pod in pods(rendered):
        (server,) = [c for c in pod["containers"] if "profiler" not in c["image"]]
        paths = {
            kind: server[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")
        }
        assert paths["startup"] == "/readyz"
        assert paths["readiness"] in ("/readyz", "/v2/health/ready")
        assert paths["liveness"] in ("/livez", "/v2/health/live")


def test_autoscaler_looks_at_cpu_and_at_requests_in_flight(rendered: dict[str, list[Document]]) -> None:
    metrics = one(rendered["overlays/monitored"], "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert {m["type"] for m in metrics} == {"Resource", "Pods"}
    (pods_metric,) = [m["pods"] for m in metrics if m["type"] == "Pods"]
    assert pods_metric["metric"]["name"] == "hotrow_requests_in_flight"
    assert int(pods_metric["target"]["averageValue"]) < Settings().max_inflight / WAITING_SHARE


def test_selectors_find_the_pods_and_nothing_goes_out(rendered: dict[str, list[Document]]) -> None:
    for name in ("base", "overlays/monitored", "overlays/profiling", "overlays/exposed"):
        documents = rendered[name]
        labels = one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert one(documents, "Service")["spec"]["selector"] == labels
        assert one(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
        policy = one(documents, "NetworkPolicy")["spec"]
        assert policy["podSelector"]["matchLabels"] == labels
        assert policy["egress"] == []
        assert "Egress" in policy["policyTypes"]


def test_images_are_named_by_version(rendered: dict[str, list[Document]]) -> None:
    images = {container["image"] for pod in pods(rendered) for container in pod["containers"]}
    assert images == {f"hotrow-{name}:{VERSION}" for name in ("api", "profiler")}


def test_kserve_asks_for_the_name_the_bundle_has(rendered: dict[str, list[Document]]) -> None:
    service = one(rendered["kserve"], "InferenceService")
    manifest = json.loads(Path("models/credit/bundle.json").read_text())
    assert service["metadata"]["name"] == manifest["name"]
    assert service["spec"]["predictor"]["model"]["protocolVersion"] == "v2"
