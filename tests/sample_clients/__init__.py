"""The clients in Go, JavaScript and C# against a running service: `make test-clients`, which builds them first."""
