"""Training of the workshop's networks on composed pictures, in PyTorch: `python -m amlrealtimeai.lab.training --help`.

PyTorch is no dependency of the package: `pip install torch`. Nothing else imports this room.
"""
