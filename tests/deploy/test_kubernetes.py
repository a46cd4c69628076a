"""The manifests fit Kubernetes' schemas, one another, and the service."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from fastapi.routing import APIRoute

from service.access.gate import is_public
from service.api import health
from service.app import create_app
from service.settings import PREFIX, Settings
from tests.server import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
# The oldest that is supported, and the newest.
VERSIONS = ("1.35", "1.37")
# Kinds that others than Kubernetes define.
CUSTOM = {"ServiceMonitor", "ScaledObject"}
Resource = dict[str, Any]
GUIDE = (ROOT / "docs" / "guides" / "deploy.md").read_text()


def rendered(folder: Path) -> list[Resource]:
    """What `kubectl apply -k` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)
    assert not done.stderr
    return list(yaml.safe_load_all(done.stdout))


def with_component(name: str, folder: Path) -> list[Resource]:
    """The base, in the namespace of the overlays, and a component."""
    kustomization = {
        "namespace": yaml.safe_load((FOLDER / "overlays" / "cpu" / "kustomization.yaml").read_text())["namespace"],
        "resources": [os.path.relpath(FOLDER / "base", folder)],
        "components": [os.path.relpath(FOLDER / "components" / name, folder)],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return rendered(folder)


def plain(path: Path) -> list[Resource]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each and "kind" in each]


def validate(resource: Resource) -> None:
    if resource["kind"] in CUSTOM:
        return
    for version in VERSIONS:
        kubernetes_validate.validate(resource, version, strict=True)


def only(resources: list[Resource], kind: str) -> Resource:
    (found,) = (resource for resource in resources if resource["kind"] == kind)
    return found


def test_the_files_fit_the_schemas():
    paths = [path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml"]
    kinds = {resource["kind"] for path in paths for resource in plain(path)}
    assert kinds >= {"Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy", "CronJob"}
    for path in paths:
        for resource in plain(path):
            validate(resource)


def test_a_slip_would_be_noticed():
    deployment = only(plain(FOLDER / "base" / "deployment.yaml"), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(deployment)


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_an_overlay(overlay: str):
    resources = rendered(FOLDER / "overlays" / overlay)
    for resource in resources:
        assert resource["kind"] not in CUSTOM  # would need a CRD
        validate(resource)
    namespace = only(resources, "Namespace")["metadata"]["name"]
    assert {each["metadata"].get("namespace", namespace) for each in resources} == {namespace}
    deployment = only(resources, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == f"quartet:{overlay}"

    variables = only(resources, "ConfigMap")["data"]
    assert container["envFrom"][0]["configMapRef"]["name"] == only(resources, "ConfigMap")["metadata"]["name"]
    settings = Settings(**{name.removeprefix(PREFIX).lower(): value for name, value in variables.items()})
    assert all(name.removeprefix(PREFIX).lower() in Settings.model_fields for name in variables)
    # The one has its models and policies on a volume that changes, the other copies them once.
    assert settings.watch == (0 if overlay == "gpu" else 10)
    assert settings.device == ("cuda" if overlay == "gpu" else "cpu")
    assert pod["terminationGracePeriodSeconds"] >= settings.drain_seconds + settings.shutdown_timeout + 10
    readiness = container["readinessProbe"]
    assert readiness["failureThreshold"] >= 3
    assert readiness["timeoutSeconds"] >= 2
    assert settings.drain_seconds > 2 * readiness["periodSeconds"] * readiness["failureThreshold"]
    assert container["ports"] == [
        {"name": "http", "containerPort": settings.port},
        {"name": "metrics", "containerPort": settings.metrics_port},
    ]
    assert settings.keys
    assert {"name": "keys", "mountPath": str(settings.keys.parent), "readOnly": True} in container["volumeMounts"]
    (keys,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "keys")
    # `kubectl create secret generic … --from-file` names the file; the group of the pod may read it.
    assert f"secret generic {keys['secretName']} --from-file={settings.keys.name}" in GUIDE
    assert keys["defaultMode"] == 0o440
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    assert {"name": "models", "mountPath": str(settings.models), "readOnly": True} in container["volumeMounts"]

    routes = {route.path for route in health.router.routes if isinstance(route, APIRoute)}
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert {probe["path"] for probe in probes} <= routes
    assert {probe["port"] for probe in probes} == {"metrics"}
    assert all(is_public("GET", probe["path"]) for probe in probes)
    service = only(resources, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        only(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} == {port["name"] for port in container["ports"]}
    # Only Prometheus reaches the metrics, which need no key.
    rules = {rule["ports"][0]["port"]: rule["from"] for rule in only(resources, "NetworkPolicy")["spec"]["ingress"]}
    assert rules.keys() == {"http", "metrics"}
    assert rules["metrics"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]

    user = re.search(r"useradd .*--uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert user
    assert pod["securityContext"]["runAsUser"] == int(user[1])
    assert pod["securityContext"]["runAsNonRoot"]
    for each in (container, *pod.get("initContainers", ())):
        assert each["securityContext"]["readOnlyRootFilesystem"]
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_monitor_selects_the_service(tmp_path: Path):
    resources = with_component("monitoring", tmp_path)
    monitor = only(resources, "ServiceMonitor")["spec"]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["path"] in {route.path for route in health.metrics_router.routes if isinstance(route, APIRoute)}
    assert endpoint["port"] in {port["name"] for port in only(resources, "Service")["spec"]["ports"]}
    labels = only(resources, "Service")["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()


def test_pods_answer_https_with_the_certificate_of_a_secret(tmp_path: Path):
    resources = with_component("tls", tmp_path)
    for resource in resources:
        validate(resource)
    variables = only(resources, "ConfigMap")["data"]
    pod = only(resources, "Deployment")["spec"]["template"]["spec"]
    (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "tls")
    (secret,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "tls")
    assert secret["defaultMode"] == 0o440
    # The names of the files in a secret of the type kubernetes.io/tls.
    for name, file in (("QUARTET_TLS_CERT", "tls.crt"), ("QUARTET_TLS_KEY", "tls.key")):
        assert variables[name] == f"{mount['mountPath']}/{file}"
        assert name.removeprefix(PREFIX).lower() in Settings.model_fields
    assert f"kubectl -n quartet create secret tls {secret['secretName']} " in GUIDE
    ports = only(resources, "Service")["spec"]["ports"]
    assert {(port["name"], port["port"]) for port in ports} == {("https", 443), ("metrics", 9000)}


def autoscaler_queries(folder: Path) -> list[str]:
    """What the Prometheus adapter asks for a pod, and KEDA for all of them."""
    (rule,) = yaml.safe_load((FOLDER / "components" / "autoscaling" / "prometheus-adapter.yaml").read_text())["rules"][
        "custom"
    ]
    scaled = only(with_component("keda", folder), "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metricType"] == "Value"
    autoscaler = only(rendered(FOLDER / "overlays" / "cpu"), "HorizontalPodAutoscaler")
    ((name, target),) = [
        (metric["pods"]["metric"]["name"], metric["pods"]["target"]["averageValue"])
        for metric in autoscaler["spec"]["metrics"]
        if metric["type"] == "Pods"
    ]
    assert name == rule["name"]["as"]
    assert float(target.removesuffix("m")) / 1000 == float(trigger["metadata"]["threshold"]) < Settings().max_wait / 4
    query = trigger["metadata"]["query"]
    assert f'namespace="{scaled["metadata"]["namespace"]}"' in query
    adapter = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="quartet"').replace("<<.GroupBy>>", "pod")
    assert "<<" not in adapter
    return [adapter, query]


def test_the_autoscalers_ask_for_a_metric_that_there_is(tiny_models: Path, tmp_path: Path):
    metrics = create_app(Settings(models=tiny_models)).metrics.registry.collect()
    exposed = {f"{metric.name}_{end}" for metric in metrics for end in ("sum", "count")}
    for query in autoscaler_queries(tmp_path):
        assert len(asked := set(re.findall(r"quartet_\w+", query))) == 2
        assert asked <= exposed


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_the_autoscalers_see_the_mean_wait(tmp_path: Path):
    def series(name: str, pod: str, values: str) -> dict[str, str]:
        labels = f'namespace="quartet",pod="{pod}",model="classifier"'
        return {"series": f"quartet_queue_seconds_{name}{{{labels}}}", "values": values}

    adapter, keda = autoscaler_queries(tmp_path)
    # Every 15 seconds 100 items wait half a second each in one pod, and the other has nothing to do.
    document = {
        "rule_files": [],
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    series("sum", "a", "0+50x20"),
                    series("count", "a", "0+100x20"),
                    series("sum", "b", "7x20"),
                    series("count", "b", "9x20"),
                ],
                "promql_expr_test": [
                    {
                        "expr": adapter,
                        "eval_time": "4m",
                        "exp_samples": [{"labels": '{pod="a"}', "value": 0.5}, {"labels": '{pod="b"}', "value": 0}],
                    },
                    {"expr": keda, "eval_time": "4m", "exp_samples": [{"labels": "{}", "value": 0.5}]},
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
    done = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
