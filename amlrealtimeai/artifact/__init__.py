"""The converted model's file: its format, its signature, and the stages that run it without TensorFlow.

`convert` writes it, `containers` packs it, `serving` runs it; it needs `npu` alone.
"""
