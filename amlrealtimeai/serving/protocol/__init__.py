"""What is on the wire: TensorFlow Serving's messages, tensors inside them, and the same in JSON."""
