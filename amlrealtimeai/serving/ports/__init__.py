"""What listens: gRPC and REST, their TLS, and how a port is opened and closed."""
