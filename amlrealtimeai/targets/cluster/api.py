"""The API server of a cluster, as far as services need it: apply, list, delete; errors as sentences."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from amlrealtimeai.errors import ConfigError, DeploymentError, NotFoundError
from amlrealtimeai.targets.cluster.manifests import MANAGER, MANAGER_LABEL, Manifest, selector

KINDS = (
    ("apps/v1", "Deployment"),
    ("autoscaling/v1", "HorizontalPodAutoscaler"),
    ("v1", "Service"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy", "PodDisruptionBudget"),
    ("v1", "Secret"),
)
"""What a service consists of, in the order in which it is taken away."""
_SECONDS = 15


class Cluster:
    """One namespace of a cluster.

    kubeconfig: path of a kubeconfig file (default: $KUBECONFIG, else ~/.kube/config); context: one of its contexts.
    namespace: where services live (default: the context's); it has to exist. Raises ConfigError.
    """

    def __init__(
        self, kubeconfig: str | Path | None = None, context: str | None = None, namespace: str | None = None
    ) -> None:
        try:
            from kubernetes import client, config
        except ImportError:
            raise ConfigError(
                "a Kubernetes cluster needs its official client: pip install 'amlrealtimeai[cluster]'"
            ) from None
        path = str(Path(kubeconfig).expanduser()) if kubeconfig else None
        try:
            settings = client.Configuration()
            config.load_kube_config(path, context, client_configuration=settings)
            _, active = config.list_kube_config_contexts(path)
            if context:
                active = next(one for one in config.list_kube_config_contexts(path)[0] if one["name"] == context)
        except (config.ConfigException, OSError, ValueError) as error:
            raise ConfigError(f"the kubeconfig {path or '~/.kube/config'} cannot be used: {error}") from error
        settings.retries = 2
        self.host = str(settings.host)
        self.context = active["name"]
        self.namespace = namespace or active["context"].get("namespace") or "default"
        self._client = client.ApiClient(settings)
        self._exception = client.ApiException

    def __repr__(self) -> str:
        return f"Cluster({self.host!r}, context={self.context!r}, namespace={self.namespace!r})"

    def check(self) -> None:
        """Raise DeploymentError if the API server does not answer, or the namespace is not there."""
        try:
            self._call("GET", f"/api/v1/namespaces/{self.namespace}")
        except NotFoundError:
            raise DeploymentError(
                f"the cluster has no namespace {self.namespace!r}; create it: kubectl create namespace {self.namespace}"
            ) from None

    @cached_property
    def policy_version(self) -> str:
        """That of PodDisruptionBudget: v1 since Kubernetes 1.21."""
        return "v1" if "v1" in self._versions("policy") else "v1beta1"

    @cached_property
    def scaling_version(self) -> str:
        """That of HorizontalPodAutoscaler: v2 since Kubernetes 1.23."""
        return "v2" if "v2" in self._versions("autoscaling") else "v1"

    def _versions(self, group: str) -> list[str]:
        return [one["version"] for one in self._call("GET", f"/apis/{group}")["versions"]]

    def apply(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Server-side apply: our fields become as given, whoever set them; fields that we do not name stay as they are.

        Raises DeploymentError for an object of that name that is somebody else's, or that the server refuses.
        """
        name, kind = manifest["metadata"]["name"], manifest["kind"]
        found = self.find(manifest["apiVersion"], kind, name)
        if found is not None and found["metadata"].get("labels", {}).get(MANAGER_LABEL) != MANAGER:
            raise DeploymentError(
                f"{kind} {self.namespace}/{name} exists and is not ours (it has no label {MANAGER_LABEL}={MANAGER}); "
                "choose another name for the service, or another namespace"
            )
        query = [("fieldManager", MANAGER), ("force", "true"), *([("dryRun", "All")] if dry_run else [])]
        path = self._path(manifest["apiVersion"], kind, name)
        return self._call("PATCH", path, manifest, query, "application/apply-patch+yaml")

    def patch(self, version: str, kind: str, name: str, change: Manifest) -> Manifest:
        """Merge `change` into an object."""
        return self._call("PATCH", self._path(version, kind, name), change, (), "application/merge-patch+json")

    def find(self, version: str, kind: str, name: str) -> Manifest | None:
        """An object, or None."""
        try:
            return self._call("GET", self._path(version, kind, name))
        except NotFoundError:
            return None

    def list(self, version: str, kind: str, labels: dict[str, str] | None = None, fields: str = "") -> list[Manifest]:
        """Objects of a kind that have these labels."""
        query = [("labelSelector", ",".join(f"{key}={value}" for key, value in (labels or {}).items()))]
        query += [("fieldSelector", fields)] if fields else []
        return list(self._call("GET", self._path(version, kind), None, query)["items"])

    def log(self, pod: str, lines: int, previous: bool = False) -> str:
        """The last lines that a pod has printed; those of its last life with `previous`."""
        query = [("tailLines", str(lines)), *([("previous", "true")] if previous else [])]
        return str(self._call("GET", f"{self._path('v1', 'Pod', pod)}/log", None, query, text=True))

    def delete(self, version: str, kind: str, name: str, grace: int | None = None) -> None:
        """Delete an object and what hangs on it, within `grace` seconds if given; gone already is fine."""
        options = {"propagationPolicy": "Background"} | ({} if grace is None else {"gracePeriodSeconds": grace})
        try:
            self._call("DELETE", self._path(version, kind, name), options)
        except NotFoundError:
            return

    def belongings(self, name: str) -> Iterator[tuple[str, str, str]]:
        """(version, kind, name) of everything on the cluster that belongs to a service."""
        for version, kind in KINDS:
            full = f"policy/{self.policy_version}" if version == "policy" else version
            for item in self.list(full, kind, selector(name)):
                yield full, kind, item["metadata"]["name"]

    def _path(self, version: str, kind: str, name: str = "") -> str:
        root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        plural = {"NetworkPolicy": "networkpolicies", "Endpoints": "endpoints"}.get(kind, f"{kind.lower()}s")
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Any = (),
        content: str = "application/json",
        text: bool = False,
    ) -> Any:
        headers = {"Accept": "*/*" if text else "application/json", "Content-Type": content}
        # an apply patch is YAML by its name; JSON is YAML
        document = json.dumps(body) if content.endswith("yaml") else body
        with self._refusals(method, path):
            request = self._client.param_serialize(
                method,
                path,
                header_params=headers,
                query_params=list(query),
                body=document,
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(*request, _request_timeout=_SECONDS)
            data = response.read().decode(errors="replace")
            if response.status >= 300:
                raise self._exception(status=response.status, reason=data)
        return data if text else json.loads(data)

    @contextmanager
    def _refusals(self, method: str, path: str) -> Iterator[None]:
        from urllib3.exceptions import HTTPError

        try:
            yield
        except self._exception as error:
            if error.status == 404:
                raise NotFoundError(f"the cluster has no {path}") from error
            raise DeploymentError(f"the cluster refused {method} {path}: {_message(error)}") from error
        except HTTPError as error:
            raise Unreachable(
                f"the API server {self.host} does not answer ({_root(error)}). Is the cluster up, and is the context "
                f"{self.context!r} the right one?"
            ) from error


class Unreachable(DeploymentError):
    """The API server does not answer."""


def _root(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error)


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.reason)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
