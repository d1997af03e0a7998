"""From an ONNX graph to layers: graph (reading, constants), views (which axis holds what), one module of handlers for
each kind of node, blockers (what cannot be lowered, and where to cut)."""
