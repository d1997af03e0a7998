// The two primitives that exist once per instruction set, with one signature; `layers.cpp` knows no instruction set.
#pragma once
#include "plan.h"

// One register tile: up to 7 neighbouring output pixels x 32 output channels, over all taps and blocks.
struct Tile {
  const uint8_t* mantissas;        // of the first pixel at tap offset 0
  const int32_t* steps;
  ptrdiff_t pixel_bytes, pixel_steps;            // from output pixel to output pixel
  const int64_t *tap_bytes, *tap_steps;          // offset of each tap
  int taps, blocks, length, block_steps;         // block_steps: 1, or 0 when the whole tensor has one step
  int mantissa_bits;
  bool is_signed;
  const uint8_t* weights;          // one panel
  float* totals;                   // [pixel][total_stride]
  ptrdiff_t total_stride;
};

// Neighbouring output pixels of one row.
struct Run {
  const uint8_t* mantissas;
  const int32_t* steps;
  float* totals;
  int pixels;
};

// Up to two runs x all panels of a channel group: for instruction sets whose tiles are larger. `tile` holds what the
// runs share; its weights are the first panel's.
struct Group {
  Tile tile;
  Run runs[2];
  int run_count, panels;
  ptrdiff_t panel_bytes;
};

// Gain, bias, residual, ReLU, then store as floats, quantise, or both. Works in place on `values`.
struct Finish {
  float* values;                   // [pixel][value_stride], from channel 0 of the range on
  ptrdiff_t value_stride;
  int pixels, lanes;               // lanes: whole blocks; without mantissas any multiple of 4
  const float* gain;               // may be null, as the next four; never together with a residual
  const float* bias;
  const float* residual;
  float* floats;
  uint8_t* mantissas;
  int32_t* steps;
  ptrdiff_t residual_stride, float_stride, pixel_bytes, pixel_steps;
  int length;
  bool relu, is_signed;
  int mantissa_bits, lowest_exponent, highest_exponent;
};

// One pixel of a depthwise filter or pool: the taps inside the image, 16 channels at a time. What lies behind the last
// channel in `values`, up to a multiple of 16, becomes 0.
struct Filter {
  const float* from;                // the first tap's pixel
  const float* weights;             // the first tap's filters; not read by pools
  ptrdiff_t row, column, weight_row, weight_column;  // to the next tap
  int rows, columns, channels;
  float* values;
};

struct Isa {
  const char* name;
  bool (*available)();
  void (*tile)(const Tile&, int pixels);
  void (*finish)(const Finish&);
  int32_t (*largest)(const float* values, int64_t count);  // the bits of the largest magnitude
  int (*step_of)(const Finish&, int32_t magnitude);        // the step of a block with that one
  void (*quantize)(const Finish&, int step, const float* values, uint8_t* mantissas, int64_t count);
  void (*pool)(const Filter&, bool maximum);  // the first of equals stays; otherwise the sum
  void (*filter)(const Filter&);
  void (*add)(float* total, const float* term, int count);
  void (*multiply)(float* values, const float* factors, int count);
  void (*activate)(int kind, float* values, const float* constant, const float* numbers, int count);
  void (*normalize)(float* values, const float* numbers, float* work, int count);
  void (*group)(const Group&);  // null: `tile` does all the work, kPixels at a time
  int shortest;                 // block length from which `group` works
};

const Isa& generic_isa();
#if defined(__x86_64__)
const Isa& avx512vnni_isa();
const Isa& amx_isa();
const Isa& avxvnni_isa();
const Isa& avx2_isa();
#elif defined(__aarch64__)
const Isa& neon_isa();
#endif
