"""The native kernel: C++ in src/, compiled by build.py, driven by engine.py.

Its bits equal amlrealtimeai.npu.reference on every CPU and with any number of threads.
"""

from amlrealtimeai.npu.native.build import library_path
from amlrealtimeai.npu.native.engine import Native, default_threads, kernel_info

__all__ = ["Native", "default_threads", "kernel_info", "library_path"]
