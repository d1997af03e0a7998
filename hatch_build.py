"""Builds wheels that bring the native kernel: AMLREALTIMEAI_WHEEL_FOR=x86_64 (or aarch64) uv build --wheel.

Without that variable the wheel is for every system, and the first use compiles the kernel with the ziglang package.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_GLIBC = "2.17"  # manylinux_2_17: every Linux with glibc of the last ten years


class KernelHook(BuildHookInterface):
    """Adds the kernel for one kind of CPU to the wheel, and says so in the wheel's name."""

    def dependencies(self) -> list[str]:
        """What building this wheel needs."""
        return ["ziglang==0.16.0"] if _machine() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the files are collected."""
        machine = _machine()
        if not machine or version == "editable":
            return
        library = _build_module(self.root).build_for(machine, _GLIBC, Path(self.root) / "build")
        build_data["force_include"][str(library)] = f"amlrealtimeai/npu/native/{library.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_{_GLIBC.replace('.', '_')}_{machine}"


def _machine() -> str:
    return os.environ.get("AMLREALTIMEAI_WHEEL_FOR", "")


def _build_module(root: str) -> Any:
    """amlrealtimeai.npu.native.build by its path: its package needs what a build environment lacks."""
    sys.path.insert(0, root)
    spec = importlib.util.spec_from_file_location("kernel_build", f"{root}/amlrealtimeai/npu/native/build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
