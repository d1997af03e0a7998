"""python -m amlrealtimeai.npu.native: compile the kernel now (otherwise its first use does) and print where it is."""

from amlrealtimeai.npu.native.build import library_path

print(library_path())
