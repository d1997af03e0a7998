"""Services on a real Kubernetes: `make test-cluster`, which builds one from Debian's source the first time."""
