"""The service: the TensorFlow Serving protocol, and the gRPC server that speaks it for converted models.

Nothing in this room imports TensorFlow: a server is ready in about a second and fits a small container.
"""
