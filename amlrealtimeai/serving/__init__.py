"""The service: converted models behind the TensorFlow Serving API.

Nothing in this room imports TensorFlow: a server is ready in about a second and fits a small container.
"""
