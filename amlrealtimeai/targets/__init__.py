"""Where a service runs, behind one small protocol (base.Target): deploy, update, scale, status, logs, delete.

embedded: a gRPC server on this machine, in this process (hosts) or in a child process, which follows the workspace's
rows (files, follow). edge: a container of podman or docker on this machine. cluster: a real Kubernetes.
"""
