"""A service as Kubernetes objects: plain dictionaries, the same for the same service."""

import base64
import hashlib
import json
from typing import Any

from amlrealtimeai.targets.cluster.service import ClusterService

Manifest = dict[str, Any]

NAME_LABEL = "app.kubernetes.io/name"
MANAGER_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "amlrealtimeai"
REVISION = "amlrealtimeai/revision"
SECRETS_DIGEST = "amlrealtimeai/secrets-digest"

GRPC_PORT, REST_PORT, ADMIN_PORT = 50051, 8501, 8502
USER = 10001
_PYTHON = "/usr/local/bin/python3"
_KEYS, _TLS = "/run/secrets/keys", "/run/secrets/tls"
# Nodes hear a moment after the pod that it is going away; until then they send it connections.
_LEAVE_SECONDS = 3


def selector(name: str) -> dict[str, str]:
    """The labels that find a service's objects."""
    return {NAME_LABEL: name, MANAGER_LABEL: MANAGER}


def objects(service: ClusterService, policy_version: str = "v1", scaling_version: str = "v2") -> list[Manifest]:
    """All objects of `service`, in the order in which they are to be applied.

    policy_version, scaling_version: the versions of policy (PodDisruptionBudget) and autoscaling (for the autoscaler)
    that the cluster has: v1 since Kubernetes 1.21, v2 since 1.23; before that v1beta1 and v1.
    """
    found = [*_secrets(service), _network_policy(service), _headless(service), _service(service)]
    found += [_disruption_budget(service, policy_version), _deployment(service)]
    return [*found, _autoscaler(service, scaling_version)] if service.scaling else found


def _object(service: ClusterService, version: str, kind: str, suffix: str = "", **parts: Any) -> Manifest:
    labels = {**service.labels, **selector(service.name), "app.kubernetes.io/part-of": "amlrealtimeai"}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": service.name + suffix, "labels": labels},
        **parts,
    }


def _secrets(service: ClusterService) -> list[Manifest]:
    found = []
    if service.keys:
        data = {"keys": _base64("\n".join(service.keys) + "\n")}
        found.append(_object(service, "v1", "Secret", "-keys", type="Opaque", data=data))
    if service.certificate is not None and service.key is not None:
        data = {"tls.crt": _base64(service.certificate), "tls.key": _base64(service.key)}
        found.append(_object(service, "v1", "Secret", "-tls", type="kubernetes.io/tls", data=data))
    return found


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _network_policy(service: ClusterService) -> Manifest:
    """In: the ports of the service. Out: nothing; a model asks nobody. Probes come from the node, which always may."""
    ports = [{"protocol": "TCP", "port": port} for port in (GRPC_PORT, REST_PORT, ADMIN_PORT)]
    spec = {
        "podSelector": {"matchLabels": selector(service.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": ports}],
    }
    return _object(service, "networking.k8s.io/v1", "NetworkPolicy", spec=spec)


def _ports() -> list[Manifest]:
    named = {"grpc": GRPC_PORT, "rest": REST_PORT}
    return [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in named.items()]


def _headless(service: ClusterService) -> Manifest:
    """DNS names every pod here, so that a gRPC client with round_robin spreads its calls over all of them."""
    spec = {"clusterIP": "None", "selector": selector(service.name), "ports": _ports()}
    return _object(service, "v1", "Service", "-pods", spec=spec)


def _service(service: ClusterService) -> Manifest:
    return _object(service, "v1", "Service", spec={"selector": selector(service.name), "ports": _ports()})


def _disruption_budget(service: ClusterService, version: str) -> Manifest:
    """Draining a node takes one replica at a time."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector(service.name)}}
    return _object(service, f"policy/{version}", "PodDisruptionBudget", spec=spec)


def _autoscaler(service: ClusterService, version: str) -> Manifest:
    scaling = service.scaling
    assert scaling is not None
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name}
    spec: Manifest = {"scaleTargetRef": target, "minReplicas": scaling.least, "maxReplicas": scaling.most}
    if version == "v1":
        spec["targetCPUUtilizationPercentage"] = scaling.utilization
    else:
        usage = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": scaling.utilization}}
        spec["metrics"] = [{"type": "Resource", "resource": usage}]
    return _object(service, f"autoscaling/{version}", "HorizontalPodAutoscaler", spec=spec)


def _deployment(service: ClusterService) -> Manifest:
    spec: Manifest = {
        "selector": {"matchLabels": selector(service.name)},
        # A new replica is ready before an old one goes.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 600,
        "template": pod_template(service),
    }
    if service.scaling is None:
        spec["replicas"] = service.replicas
    annotations = {REVISION: str(service.revision)}
    made = _object(service, "apps/v1", "Deployment", spec=spec)
    made["metadata"]["annotations"] = annotations
    return made


def pod_template(service: ClusterService) -> Manifest:
    """The pods of the Deployment; another key or certificate gives another template, and so a rolling replacement."""
    labels = {**service.labels, **selector(service.name)}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(service.name)},
    }
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": service.grace + _LEAVE_SECONDS,
        "topologySpreadConstraints": [spread],
        "containers": [_container(service)],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}}, *_secret_volumes(service)],
    }
    if service.pull_secret:
        spec["imagePullSecrets"] = [{"name": service.pull_secret}]
    annotations = {REVISION: str(service.revision), SECRETS_DIGEST: _secrets_digest(service)}
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def _secrets_digest(service: ClusterService) -> str:
    text = json.dumps([list(service.keys), service.certificate, service.key])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _secret_volumes(service: ClusterService) -> list[Manifest]:
    names = [*(["keys"] if service.keys else []), *(["tls"] if service.has_tls else [])]
    return [{"name": n, "secret": {"secretName": f"{service.name}-{n}", "defaultMode": 0o440}} for n in names]


def _container(service: ClusterService) -> Manifest:
    leave = [_PYTHON, "-c", f"import time; time.sleep({_LEAVE_SECONDS})"]
    mounts: list[Manifest] = [{"name": "scratch", "mountPath": "/tmp"}]
    mounts += [{"name": "keys", "mountPath": _KEYS, "readOnly": True}] if service.keys else []
    mounts += [{"name": "tls", "mountPath": _TLS, "readOnly": True}] if service.has_tls else []
    ports = {"grpc": GRPC_PORT, "rest": REST_PORT, "admin": ADMIN_PORT}
    return {
        "name": "serving",
        "image": service.image,
        "args": _arguments(service),
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()],
        "resources": {"requests": service.resources.requests(), "limits": service.resources.limits()},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
        # loading takes what it takes: until the first "ready" only the start-up probe counts
        "startupProbe": {**_probe("/readyz"), "periodSeconds": 1, "failureThreshold": 300},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {**_probe("/livez"), "periodSeconds": 10, "failureThreshold": 3},
        "lifecycle": {"preStop": {"exec": {"command": leave}}},
    }


def _probe(path: str) -> Manifest:
    return {"httpGet": {"path": path, "port": "admin", "scheme": "HTTP"}, "timeoutSeconds": 5}


def _arguments(service: ClusterService) -> list[str]:
    arguments = ["--name", service.name, "--host", "0.0.0.0", "--port", str(GRPC_PORT), "--rest-port", str(REST_PORT)]
    arguments += ["--admin-host", "0.0.0.0", "--admin-port", str(ADMIN_PORT)]
    arguments += ["--model-version", str(service.revision), "--grace", str(service.grace), "--log-format", "json"]
    arguments += ["--ssl-cert", f"{_TLS}/tls.crt", "--ssl-key", f"{_TLS}/tls.key"] if service.has_tls else []
    arguments += ["--key-file", f"{_KEYS}/keys"] if service.keys else []
    return [*arguments, *service.arguments]
