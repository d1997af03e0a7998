"""The structures of src/plan.h, field by field, and the functions of the library."""

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_void_p, sizeof
from functools import cache

from amlrealtimeai.errors import UnsupportedError
from amlrealtimeai.npu.native.build import library_path

INTERFACE_VERSION = 3
CONV, MAX_POOL, AVG_POOL, POINTWISE, QUANTIZE_WHOLE, FILTER, PICK, BLEND, SHAPE = range(9)
COPY, MULTIPLY, ADD, ADD_TENSOR, RELU, MULTIPLY_TENSOR, PRELU, CLIP, THRESHOLD, SIGMOID, SILU = range(11)
HARD_SIGMOID, HARD_SWISH, NORMALIZE = range(11, 14)


def _int32(names: str) -> list[tuple[str, type]]:
    return [(name, c_int32) for name in names.split()]


class Tensor(ctypes.Structure):
    """struct Tensor."""

    _fields_ = (
        *_int32("height width channels lanes has_floats length blocks whole is_signed top left bottom right"),
        ("floats", c_int64),
        ("mantissas", c_int64),
        ("steps", c_int64),
    )


class Step(ctypes.Structure):
    """struct Step."""

    _fields_ = (
        *_int32("kind source destination residual relu kernel_h kernel_w stride_h stride_w dilation_h dilation_w"),
        *_int32("pad_top pad_left taps blocks length group_channels groups parts first_operation operations"),
        ("counted", c_int32 * 4),
        ("axis", c_int32),
        ("fill", c_float),
        ("group_bytes", c_int64),
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("lists", c_void_p * 3),
        ("factors", c_void_p),
        ("tap_bytes", c_void_p),
        ("tap_steps", c_void_p),
    )


class Operation(ctypes.Structure):
    """struct Operation."""

    _fields_ = (*_int32("kind tensor channel"), ("numbers", c_float * 4), ("constant", c_void_p))


class Plan(ctypes.Structure):
    """struct Plan."""

    _fields_ = (
        ("tensors", POINTER(Tensor)),
        ("steps", POINTER(Step)),
        ("operations", POINTER(Operation)),
        ("outputs", POINTER(c_int32)),
        *_int32("tensor_count step_count output_count input mantissa_bits lowest_exponent highest_exponent"),
        ("arena_bytes", c_int64),
        ("scratch_floats", c_int64),
    )


class Layout(ctypes.Structure):
    """struct Layout: what the library says of itself."""

    _fields_ = tuple(
        _int32("version tensor_bytes step_bytes operation_bytes plan_bytes step_kinds operation_kinds")
        + _int32("panel pixels run_pixels slack")
    )


_EXPECTED = {
    "version": INTERFACE_VERSION,
    "tensor_bytes": sizeof(Tensor),
    "step_bytes": sizeof(Step),
    "operation_bytes": sizeof(Operation),
    "plan_bytes": sizeof(Plan),
    "step_kinds": SHAPE + 1,
    "operation_kinds": NORMALIZE + 1,
}


@cache
def library() -> ctypes.CDLL:
    """The library, with its functions' types set, after a look at its structures. Calls release the GIL."""
    loaded = ctypes.CDLL(str(library_path()))
    found = Layout.in_dll(loaded, "npu_layout")
    for name, expected in _EXPECTED.items():
        if getattr(found, name) != expected:
            raise UnsupportedError(
                f"{library_path()}: expected {name} {expected}, found {getattr(found, name)}; "
                "delete the file, and it is built again"
            )
    loaded.npu_isa_name.restype = c_char_p
    loaded.npu_create.argtypes = [POINTER(Plan), ctypes.c_int, c_char_p]
    loaded.npu_create.restype = c_void_p
    loaded.npu_engine_isa.argtypes = [c_void_p]
    loaded.npu_engine_isa.restype = c_char_p
    loaded.npu_run.argtypes = [c_void_p, POINTER(c_float), POINTER(POINTER(c_float)), c_int64, POINTER(c_int64)]
    loaded.npu_run.restype = None
    loaded.npu_destroy.argtypes = [c_void_p]
    loaded.npu_destroy.restype = None
    return loaded


def sizes() -> Layout:
    """The sizes of tiles that the library was compiled with."""
    return Layout.in_dll(library(), "npu_layout")
