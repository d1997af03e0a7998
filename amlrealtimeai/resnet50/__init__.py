"""The names of the first edition: `model` (LocalQuantizedResNet50, RemoteQuantizedResNet50) and `utils`."""
