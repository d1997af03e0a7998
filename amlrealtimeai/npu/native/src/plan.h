// What Python hands over (amlrealtimeai/npu/native/layout.py mirrors these structs) and what every file here shares.
//
// The ladder, from the slow definition to the fast code; every rung gives the same bits:
//   npu/reference.py      NumPy, one operation per function: the specification
//   isa_generic.cpp       the same arithmetic on packed data in plain C++
//   isa_avx2.cpp          the same data, 4 pixels x 16 channels at a time in registers; pairs are summed in 16 bits
//   isa_avxvnni.cpp       7 x 16; an instruction sums four products in 32 bits (lanes8.h: what it shares with AVX2)
//   isa_neon.cpp          7 x 8 in the shorter registers of 64-bit Arm
//   isa_avx512vnni.cpp    7 x 32 in the longer ones of AVX-512
//   isa_amx.cpp           32 x 32 in tile registers (below 48 in a block AVX-512 does its work)
//   finish.h              what follows a layer's sums, written once in the compiler's vectors (wide.h), compiled for each
//   layers.cpp            how a layer is cut into such tiles; engine.cpp: how layers follow each other
//
// A tensor lives in one arena as floats (for residuals, pools, outputs), as mantissas with steps (for matrices), or both.
// Mantissas of tensors that can be negative are stored with +128, because the dot product instructions take an unsigned
// operand; `start` in the packed weights takes the surplus off again, exactly (AVX2 and NEON take it off beforehand).
// A step is the power of two of one mantissa unit, stored shifted to a float's exponent field, so that the scale
// 2^(step of activation + step of weight) is one integer addition (the weight's half carries the exponent bias).
#pragma once
#include <stddef.h>
#include <stdint.h>

constexpr int kPanel = 32;  // output channels of one tile
constexpr int kPixels = 7;  // output pixels of one tile: the widths of these networks are multiples of 7
constexpr int kRunPixels = 16;  // output pixels of one run, where an instruction set takes two runs at once

// Bytes behind a tensor's last lane that vector loads may read (never write).
constexpr int kSlack = 256;

struct Tensor {
  int32_t height, width, channels;
  int32_t lanes;                      // floats, or mantissas, from pixel to pixel: the channels, and +0 up to whole blocks
  int32_t has_floats;
  int32_t length, blocks;             // mantissas per block, blocks per pixel; blocks == 0: has no mantissas
  int32_t whole;                      // one step for the whole tensor; it has mantissas only and no padding lanes
  int32_t is_signed;                  // mantissas are stored with +128
  int32_t top, left, bottom, right;   // halo of zeros around the mantissas, so that padding needs no branches
  int64_t floats, mantissas, steps;   // byte offsets in the arena; floats < 0: the caller's array, without padding lanes
};

enum StepKind : int32_t {
  kConv, kMaxPool, kAvgPool, kPointwise, kQuantizeWhole, kFilter, kPick, kBlend, kShape, kStepKinds
};

struct Step {
  int32_t kind, source, destination, residual;  // tensor indices; residual -1: none
  int32_t relu;
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
  int32_t taps, blocks, length;                 // of the matrix
  int32_t group_channels, groups;               // channels are worked on in groups of whole blocks
  int32_t parts;                                // of a grouped convolution, whose channels are worked on all together
  int32_t first_operation, operations;          // what follows, value by value
  int32_t counted[4];                           // how far into the padding an average counts: top, left, bottom, right
  int32_t axis;                                 // of a blend: 0 rows, 1 columns
  float fill;                                   // of a pick: what stands at the position -1
  int64_t group_bytes;
  const uint8_t* weights;  // [group or part][panel][tap][block]: 32 steps, 32 starts if signed, [length / 4][32][4] mantissas
  const float* bias;       // [lanes of the destination]
  const int32_t* lists[3];  // of a pick: rows, columns and channels, null for all; of a blend: both positions
  const float* factors;     // of a filter: [tap][outputs, up to a multiple of 16]; of a blend: the second's weights
  const int64_t *tap_bytes, *tap_steps;  // where each tap's mantissas and steps lie, from those of the window's corner on
};

enum OperationKind : int32_t {
  kCopy, kMultiply, kAdd, kAddTensor, kRelu, kMultiplyTensor, kPrelu, kClip, kThreshold, kSigmoid, kSilu, kHardSigmoid,
  kHardSwish, kNormalize, kOperationKinds
};

struct Operation {        // in order; copies come first and fill the channels from `channel` on
  int32_t kind, tensor, channel;
  float numbers[4];
  const float* constant;  // [lanes of the destination, up to a multiple of 16]
};

struct Plan {
  const Tensor* tensors;
  const Step* steps;
  const Operation* operations;
  const int32_t* outputs;  // tensor indices
  int32_t tensor_count, step_count, output_count, input;
  int32_t mantissa_bits, lowest_exponent, highest_exponent;
  int64_t arena_bytes, scratch_floats;
};

// What the library says of itself: layout.py compares it with its own when it opens the library.
struct Layout {
  int32_t version, tensor_bytes, step_bytes, operation_bytes, plan_bytes, step_kinds, operation_kinds;
  int32_t panel, pixels, run_pixels, slack;
};
