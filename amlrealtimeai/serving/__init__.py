"""The service: converted models behind the TensorFlow Serving API.

Nothing in this room imports TensorFlow: a server is ready in about a second and fits a small container.
"""

import os

# gRPC's core prints handshake and port troubles; all of them reach us as errors with words. Read when gRPC is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
