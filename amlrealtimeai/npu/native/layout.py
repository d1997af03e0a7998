"""The structures of src/plan.h, field by field, and the functions of the library."""

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_void_p

from amlrealtimeai.errors import UnsupportedError
from amlrealtimeai.npu.native.build import library_path

INTERFACE_VERSION = 1
CONV, MAX_POOL, AVG_POOL, POINTWISE, QUANTIZE_WHOLE = range(5)
COPY, MULTIPLY, ADD, ADD_TENSOR, RELU = range(5)


def _int32(names: str) -> list[tuple[str, type]]:
    return [(name, c_int32) for name in names.split()]


class Tensor(ctypes.Structure):
    """struct Tensor."""

    _fields_ = (
        *_int32("height width channels float_stride has_floats length blocks pixel_bytes whole is_signed"),
        *_int32("top left bottom right"),
        ("floats", c_int64),
        ("mantissas", c_int64),
        ("steps", c_int64),
    )


class Step(ctypes.Structure):
    """struct Step."""

    _fields_ = (
        *_int32("kind source destination residual relu kernel_h kernel_w stride_h stride_w dilation_h dilation_w"),
        *_int32("pad_top pad_left taps blocks length rows group_channels groups first_operation operations"),
        ("group_bytes", c_int64),
        ("weights", c_void_p),
        ("bias", c_void_p),
    )


class Operation(ctypes.Structure):
    """struct Operation."""

    _fields_ = (*_int32("kind tensor channel reserved"), ("constant", c_void_p))


class Output(ctypes.Structure):
    """struct Output."""

    _fields_ = tuple(_int32("tensor reserved"))


class Plan(ctypes.Structure):
    """struct Plan."""

    _fields_ = (
        ("tensors", POINTER(Tensor)),
        ("steps", POINTER(Step)),
        ("operations", POINTER(Operation)),
        ("outputs", POINTER(Output)),
        *_int32("tensor_count step_count output_count input mantissa_bits lowest_exponent highest_exponent reserved"),
        ("arena_bytes", c_int64),
        ("scratch_floats", c_int64),
    )


def open_library() -> ctypes.CDLL:
    """The library, with its functions' types set. Calls release the GIL."""
    library = ctypes.CDLL(str(library_path()))
    if library.npu_interface_version() != INTERFACE_VERSION:
        raise UnsupportedError(f"{library_path()} is of another version; delete it, and it is built again")
    library.npu_isa_name.restype = c_char_p
    library.npu_create.argtypes = [POINTER(Plan), ctypes.c_int, c_char_p]
    library.npu_create.restype = c_void_p
    library.npu_engine_isa.argtypes = [c_void_p]
    library.npu_engine_isa.restype = c_char_p
    library.npu_run.argtypes = [c_void_p, POINTER(c_float), POINTER(POINTER(c_float)), c_int64, POINTER(c_int64)]
    library.npu_run.restype = None
    library.npu_destroy.argtypes = [c_void_p]
    library.npu_destroy.restype = None
    return library
