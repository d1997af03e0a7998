"""The service: converted models, the TensorFlow Serving protocol, the gRPC server that speaks it.

Nothing in this room imports TensorFlow: a server is ready in about a second and fits a small container.
"""
