"""A real Kubernetes of one node on this machine: etcd, API server, controllers, scheduler, kubelet, containerd.

`build_kubernetes.sh` builds the programs from Debian's source. Everything lives in one folder and ends with `stop`.
Needs root, and Debian's etcd-server, containerd, runc, containernetworking-plugins, catatonit and iproute2.

    python -m tests.cluster.kubernetes

says in one line what keeps this machine from running a node, if something does.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from amlrealtimeai.containers.archive import write_image
from amlrealtimeai.containers.layer import Entry, pack

BRIDGE, SUBNET, NODE = "amlrt0", "10.244.77.0/24", "10.244.77.1"
PAUSE = "localhost/pause:1"
# The kubelet sets these for the whole machine; inside a private mount namespace it finds files of ours instead.
SYSCTL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


class Kubernetes:
    """A running cluster: `kubeconfig`, and `load` to bring an image to its node."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.kubeconfig = folder / "kubeconfig"
        self.ports = dict(
            zip(("etcd", "peer", "api", "kubelet", "controllers", "scheduler"), free_ports(6), strict=True)
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        self._token = secrets.token_hex(16)

    def start(self) -> None:
        """Start everything and wait until the node is ready."""
        self._write_credentials()
        p = self.ports
        etcd, peer = f"http://127.0.0.1:{p['etcd']}", f"http://127.0.0.1:{p['peer']}"
        self._run("etcd", "/usr/bin/etcd", *_flags(
            data_dir=self.folder / "etcd", listen_client_urls=etcd, advertise_client_urls=etcd, listen_peer_urls=peer,
            initial_advertise_peer_urls=peer, initial_cluster=f"default={peer}", unsafe_no_fsync="true",
        ))  # fmt: skip
        key = self.folder / "accounts.key"
        self._run("api", self.programs / "kube-apiserver", *_flags(
            etcd_servers=etcd, bind_address="127.0.0.1", secure_port=p["api"], cert_dir=self.folder / "api",
            token_auth_file=self.folder / "tokens", authorization_mode="RBAC", service_account_key_file=key,
            service_account_signing_key_file=key, service_account_issuer="https://kubernetes.default.svc",
            service_cluster_ip_range="10.245.0.0/24", kubelet_preferred_address_types="InternalIP",
        ))  # fmt: skip
        self.wait("the API server", lambda: self.get("/readyz", text=True) == "ok")
        common = {"kubeconfig": self.kubeconfig, "leader_elect": "false", "bind_address": "127.0.0.1", "port": 0}
        for name, program in (("controllers", "kube-controller-manager"), ("scheduler", "kube-scheduler")):
            accounts = {"service_account_private_key_file": key} if name == "controllers" else {}
            flags = _flags(**common, **accounts, secure_port=p[name], cert_dir=self.folder / name)
            self._run(name, self.programs / program, *flags)
        self._start_node()
        self.wait("the node", self._node_is_ready)
        self.wait("the service account", lambda: self.get("/api/v1/namespaces/default/serviceaccounts/default"))

    def load(self, image: Path) -> None:
        """Bring an image file to the node."""
        self._ctr("--namespace", "k8s.io", "images", "import", image)

    def get(self, path: str, text: bool = False) -> Any:
        """An object or list of the API server."""
        request = urllib.request.Request(f"https://127.0.0.1:{self.ports['api']}{path}")
        request.add_header("Authorization", f"Bearer {self._token}")
        context = ssl.create_default_context(cafile=self.folder / "api/apiserver.crt")
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            data = answer.read()
        return data.decode() if text else json.loads(data)

    def wait(self, what: str, state: Callable[[], Any], seconds: float = 120) -> None:
        """Until `state` is true."""
        end = time.monotonic() + seconds
        while True:
            try:
                if state():
                    return
            except (OSError, urllib.error.URLError):
                pass
            ended = [p.args[0] for p in self._processes if p.poll() is not None]
            if ended or time.monotonic() > end:
                raise AssertionError(
                    f"{what} did not come up (ended: {ended}); the logs are in {self.folder}\n{self._tails()}"
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """End every process and container, and take the network away."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self._processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        subprocess.run(["ip", "link", "delete", BRIDGE], stderr=subprocess.DEVNULL, check=False)

    def _write_credentials(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tokens").write_text(f"{self._token},admin,admin,system:masters\n")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
        (self.folder / "accounts.key").write_bytes(key.private_bytes(*pem, serialization.NoEncryption()))
        cluster = {
            "server": f"https://127.0.0.1:{self.ports['api']}",
            "certificate-authority": str(self.folder / "api/apiserver.crt"),
        }
        self.kubeconfig.write_text(yaml.safe_dump({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin", "namespace": "default"}}],
            "current-context": "local",
        }))  # fmt: skip

    def _run(self, name: str, *command: object, prefix: tuple[str, ...] = ()) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            words = [*prefix, *map(str, command)]
            self._processes.append(subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def _tails(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}: ..." + log.read_text(errors="replace")[-1500:] for log in logs)

    def _ctr(self, *words: object) -> str:
        command = ["ctr", "--address", str(self.folder / "containerd/sock"), *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    def _node_is_ready(self) -> bool:
        nodes = self.get("/api/v1/nodes")["items"]
        conditions = [c for node in nodes for c in node["status"].get("conditions", [])]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def _start_node(self) -> None:
        """containerd and the kubelet, in one mount namespace of their own."""
        place = self.folder / "containerd"
        for folder in (place, self.folder / "cni", self.folder / "kubelet", self.folder / "sys"):
            folder.mkdir(exist_ok=True)
        subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
        subprocess.run(["ip", "address", "add", f"{NODE}/24", "dev", BRIDGE], check=True)
        subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)
        (place / "config.toml").write_text(_containerd_config(place, self.folder / "cni"))
        (self.folder / "cni/10-bridge.conflist").write_text(json.dumps(_network()))
        (self.folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet_config(self.ports["kubelet"])))
        lines = ["mount --make-rshared /"]
        for name, value in SYSCTL.items():
            file = self.folder / "sys" / name.replace("/", ".")
            file.write_text(value + "\n")
            lines.append(f"if [ -e /proc/sys/{name} ]; then mount --bind {file} /proc/sys/{name}; fi")
        lines += [
            f"containerd --config {place}/config.toml > {self.folder}/containerd.log 2>&1 & containerd=$!",
            f"until ctr --address {place}/sock version > /dev/null 2>&1; do kill -0 $containerd; sleep 0.2; done",
            f"ctr --address {place}/sock --namespace k8s.io images import {_pause(self.folder)}",
            f"{self.programs}/kubelet --kubeconfig={self.kubeconfig} --config={self.folder}/kubelet.yaml"
            f" --root-dir={self.folder}/kubelet --cert-dir={self.folder}/kubelet --container-runtime=remote"
            f" --container-runtime-endpoint=unix://{place}/sock --hostname-override=node1 --node-ip={NODE}"
            " & kubelet=$!",
            f"trap '{_CLEAN_UP.format(address=place / 'sock')}' TERM",
            "wait $kubelet",
        ]
        script = self.folder / "node.sh"
        script.write_text("#!/bin/bash\nset -eu\n" + "\n".join(lines) + "\n")
        script.chmod(0o755)
        self._run("kubelet", script, prefix=("unshare", "--mount"))


# What the kubelet started outlives it; it ends with the node.
_CLEAN_UP = (
    "kill $kubelet; wait $kubelet || true; "
    "for id in $(ctr --address {address} --namespace k8s.io tasks ls -q); do "
    "ctr --address {address} --namespace k8s.io tasks kill -s KILL $id || true; done; "
    "sleep 0.5; kill $containerd; wait $containerd || true; exit 0"
)


def _containerd_config(place: Path, network: Path) -> str:
    return f"""
version = 2
root = "{place}/root"
state = "{place}/state"
[grpc]
  address = "{place}/sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{network}"
"""


def _network() -> dict[str, Any]:
    addresses = {"type": "host-local", "ranges": [[{"subnet": SUBNET}]]}
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def _kubelet_config(port: int) -> dict[str, Any]:
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": NODE,
        "port": port,
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "resolvConf": "/etc/resolv.conf",
        "syncFrequency": "2s",
        "nodeStatusUpdateFrequency": "2s",
    }


def _pause(folder: Path) -> Path:
    """The image of the process that holds a pod's namespaces."""
    image = folder / "pause.tar"
    with (folder / "pause.layer").open("w+b") as layer, image.open("wb") as out:
        packed = pack([Entry("pause", Path("/usr/bin/catatonit"), 0o755)], layer, 1, lambda _: None)
        layer.seek(0)
        config = {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "config": {"Entrypoint": ["/pause", "-P"], "User": "65534:65534"},
        }
        write_image(out, PAUSE, config, [(packed, layer)])
    return image


def _flags(**values: object) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


_TRIALS = {
    "no mount namespace of its own": "unshare --mount mount --make-rshared /",
    "no bridge for the pods": "ip link add amlrt-try type bridge && ip link delete amlrt-try",
    "no network namespaces": "unshare --net true",
    "no overlay file system": """cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT && mkdir low up work all &&
    unshare --mount mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=work all""",
    "no cgroups that can be written": "cd /sys/fs/cgroup && if [ -d memory ]; then cd memory; fi && "
    "mkdir amlrt-try && rmdir amlrt-try",
}
"""What a node does to this machine, as commands that do it once and take it back."""


def obstacles() -> list[str]:
    """Why no node can run here, whatever is installed; empty where one can."""
    if os.name != "posix" or os.getuid():
        return ["a kubelet needs root"]
    found = []
    for what, command in _TRIALS.items():
        tried = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        if tried.returncode:
            found.append(f"{what} ({(tried.stderr.strip().splitlines() or ['status'])[-1]})")
    return found


def missing() -> list[str]:
    """Debian packages that the node needs and this machine lacks."""
    programs = {
        "etcd": "etcd-server", "containerd": "containerd", "runc": "runc", "catatonit": "catatonit", "ip": "iproute2",
        "conntrack": "conntrack", "iptables": "iptables", "docker-registry": "docker-registry",
    }  # fmt: skip
    found = [package for program, package in programs.items() if not shutil.which(program)]
    return found + ([] if Path("/usr/lib/cni/bridge").exists() else ["containernetworking-plugins"])


if __name__ == "__main__":
    print("; ".join(obstacles()))
