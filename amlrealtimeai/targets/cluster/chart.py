"""The same objects for people who deploy with other tools: YAML, a Helm chart, a KServe InferenceService."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from amlrealtimeai import __version__
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.targets.cluster.manifests import ADMIN_PORT, GRPC_PORT, REVISION, Manifest, objects, pod_template
from amlrealtimeai.targets.cluster.service import ClusterService

_NUMBERS = ("replicas", "minReplicas", "maxReplicas", "averageUtilization", "targetCPUUtilizationPercentage")


def as_yaml(manifests: list[Manifest]) -> str:
    """One document an object."""
    return "---\n".join(yaml.safe_dump(manifest, sort_keys=False) for manifest in manifests)


def write_all(service: ClusterService, manifests: list[Manifest], folder: Path) -> list[Path]:
    """Write `manifests`, which are the service's, then its chart and, where KServe can have it, its InferenceService.

    Returns what was written; files that are there already are replaced, but not a chart (InvalidInputError).
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_chart(service, folder / f"{service.name}-chart"), folder / f"{service.name}.yaml"]
    written[-1].unlink(missing_ok=True)
    written[-1].touch(0o600, exist_ok=False)  # its keys are for its owner alone
    written[-1].write_text(as_yaml(manifests))
    if not service.has_tls:
        written.append(folder / f"{service.name}-kserve.yaml")
        written[-1].write_text(as_yaml([inference_service(service)]))
    return written


def inference_service(service: ClusterService) -> Manifest:
    """A KServe InferenceService (serving.kserve.io/v1beta1) whose predictor is the service's container.

    KServe brings TLS and keys of its own: a service with keys or a certificate is an InvalidInputError.
    """
    if service.keys or service.has_tls:
        raise InvalidInputError("KServe ends TLS in front of the service: leave keys and certificate out of it")
    spec = pod_template(service)["spec"]
    container = spec["containers"][0]
    container["name"] = "kserve-container"
    # KServe routes to the one port that is named h2c (gRPC) and probes by itself.
    container["ports"] = [{"name": "h2c", "containerPort": GRPC_PORT, "protocol": "TCP"}]
    container.pop("lifecycle")
    container.pop("startupProbe")
    for probe in ("readinessProbe", "livenessProbe"):
        container[probe]["httpGet"]["port"] = ADMIN_PORT
    scaling = service.scaling
    replicas = {
        "minReplicas": scaling.least if scaling else service.replicas,
        "maxReplicas": scaling.most if scaling else service.replicas,
    }
    kept = ("automountServiceAccountToken", "securityContext", "containers", "volumes", "imagePullSecrets")
    predictor = {**replicas, **{key: spec[key] for key in kept if key in spec}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": service.name, "labels": dict(service.labels)},
        "spec": {"predictor": predictor},
    }


def write_chart(service: ClusterService, folder: Path | str) -> Path:
    """Write a Helm chart for `service` to `folder`: image, replicas, resources, keys and certificate are values.

    No key and no certificate is written; `helm install --set-file tls.certificate=... ` brings them. `folder` must not
    exist.
    """
    folder = Path(folder)
    if folder.exists():
        raise InvalidInputError(f"{folder} exists already; give the name of a folder that does not")
    (folder / "templates").mkdir(parents=True)
    chart = {
        "apiVersion": "v2",
        "name": service.name,
        "description": "A converted model, served over gRPC",
        "type": "application",
        "version": f"0.1.{service.revision}",
        "appVersion": __version__,
    }
    (folder / "Chart.yaml").write_text(yaml.safe_dump(chart, sort_keys=False))
    (folder / "values.yaml").write_text(yaml.safe_dump(_values(service), sort_keys=False))
    filled = _with_placeholders(service)
    # the second is for Kubernetes before 1.21 and 1.23
    for new, old in zip(objects(filled), objects(filled, "v1beta1", "v1"), strict=True):
        suffix = new["metadata"]["name"].removeprefix(service.name)
        text = _template(new, service)
        if new["apiVersion"] != old["apiVersion"]:
            known = f'.Capabilities.APIVersions.Has "{new["apiVersion"]}"'
            text = f"{{{{- if {known} }}}}\n{text}{{{{- else }}}}\n{_template(old, service)}{{{{- end }}}}\n"
        (folder / "templates" / f"{new['kind'].lower()}{suffix}.yaml").write_text(text)
    return folder


def _values(service: ClusterService) -> dict[str, Any]:
    values: dict[str, Any] = {"image": service.image, "revision": service.revision}
    if service.scaling is None:
        values["replicas"] = service.replicas
    else:
        values["scaling"] = vars(service.scaling)
    resources = service.resources
    values["resources"] = {"requests": resources.requests(), "limits": resources.limits()}
    values |= {"keys": ""} if service.keys else {}
    values |= {"tls": {"certificate": "", "key": ""}} if service.has_tls else {}
    return values


def _with_placeholders(service: ClusterService) -> ClusterService:
    secret = {"keys": ["@keys@"]} if service.keys else {}
    tls = {"certificate": "@certificate@", "key": "@key@"} if service.has_tls else {}
    return replace(service, image="{{ .Values.image }}", **secret, **tls)  # type: ignore[arg-type]


def _template(manifest: Manifest, service: ClusterService) -> str:
    if manifest["kind"] == "Secret":
        manifest = {**manifest, "data": {name: _SECRETS[name] for name in manifest["data"]}}
    if manifest["kind"] == "Deployment":
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        container["resources"] = "{{ .Values.resources | toYaml | nindent 14 }}"
        container["args"][container["args"].index("--model-version") + 1] = _REVISION
        annotations = manifest["spec"]["template"]["metadata"]["annotations"]
        manifest["metadata"]["annotations"][REVISION] = annotations[REVISION] = _REVISION
        annotations["amlrealtimeai/secrets-digest"] = (
            "{{ list .Values.keys .Values.tls | toJson | sha256sum | trunc 16 }}"
        )
        if service.scaling is None:
            manifest["spec"]["replicas"] = "{{ .Values.replicas }}"
    if manifest["kind"] == "HorizontalPodAutoscaler":
        spec = manifest["spec"]
        spec["minReplicas"], spec["maxReplicas"] = "{{ .Values.scaling.least }}", "{{ .Values.scaling.most }}"
        goal = spec["metrics"][0]["resource"]["target"] if "metrics" in spec else spec
        goal["averageUtilization" if "metrics" in spec else "targetCPUUtilizationPercentage"] = _UTILIZATION
    text = yaml.safe_dump(manifest, sort_keys=False, width=1000)
    # numbers and blocks must not be quoted
    text = re.sub(rf"^( *(?:{'|'.join(_NUMBERS)}): )'(.*)'$", r"\1\2", text, flags=re.MULTILINE)
    return re.sub(r"^( *resources: )'(.*)'$", r"\1\2", text, flags=re.MULTILINE).replace(
        "resources: {{", "resources: {{-"
    )


_UTILIZATION = "{{ .Values.scaling.utilization }}"
_REVISION = "{{ .Values.revision }}"
_SECRETS = {
    "keys": "{{ .Values.keys | b64enc }}",
    "tls.crt": "{{ .Values.tls.certificate | b64enc }}",
    "tls.key": "{{ .Values.tls.key | b64enc }}",
}
