// Plain C++ for every CPU: the same packed data and the same order as the reference.
#include "isa.h"
#include "loops.h"
#include "vectors.h"

namespace {

inline float as_float(int32_t bits) { return __builtin_bit_cast(float, bits); }
inline int32_t as_bits(float value) { return __builtin_bit_cast(int32_t, value); }

void tile(const Tile& t, int pixels) {
  const int header = (t.is_signed ? 2 : 1) * kPanel * int(sizeof(int32_t));
  const int block_bytes = header + t.length * kPanel;
  for (int p = 0; p < pixels; ++p) {
    float total[kPanel] = {};
    const uint8_t* block = t.weights;
    for (int tap = 0; tap < t.taps; ++tap) {
      const uint8_t* mantissas = t.mantissas + t.tap_bytes[tap] + p * t.pixel_bytes;
      const int32_t* steps = t.steps + t.tap_steps[tap] + p * t.pixel_steps;
      for (int b = 0; b < t.blocks; ++b, block += block_bytes, mantissas += t.length, steps += t.block_steps) {
        const int32_t* weight_steps = reinterpret_cast<const int32_t*>(block);
        const int8_t* weights = reinterpret_cast<const int8_t*>(block + header);
        int32_t dot[kPanel] = {};
        if (t.is_signed) __builtin_memcpy(dot, weight_steps + kPanel, sizeof dot);
        for (int k = 0; k < t.length; ++k) {
          const int32_t activation = mantissas[k];
          const int8_t* quad = weights + (k / 4) * kPanel * 4 + k % 4;
          for (int c = 0; c < kPanel; ++c) dot[c] += activation * quad[4 * c];
        }
        for (int c = 0; c < kPanel; ++c) total[c] += float(dot[c]) * as_float(weight_steps[c] + *steps);
      }
    }
    __builtin_memcpy(t.totals + p * t.total_stride, total, sizeof total);
  }
}

// Adding and taking off 1.5 * 2^23 rounds to the nearest integer, halves to even, for |x| < 2^22.
inline float round_half_even(float x) { return (x + 12582912.0f) - 12582912.0f; }

void quantize_block(const Finish& f, const float* values, uint8_t* mantissas, int32_t* step) {
  int32_t largest = 0;
  for (int c = 0; c < f.length; ++c) {
    const int32_t bits = as_bits(values[c]) & 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  int exponent = (largest >> 23) - 127;
  exponent = exponent < f.lowest_exponent ? f.lowest_exponent : exponent;
  exponent = exponent > f.highest_exponent ? f.highest_exponent : exponent;
  const int shift = exponent - (f.mantissa_bits - 1);
  const float inverse = as_float((127 - shift) << 23), limit = float((1 << f.mantissa_bits) - 1);
  const int offset = f.is_signed ? 128 : 0;
  for (int c = 0; c < f.length; ++c) {
    float scaled = values[c] * inverse;
    scaled = scaled > limit ? limit : scaled;
    scaled = scaled < -limit ? -limit : scaled;
    mantissas[c] = uint8_t(int(round_half_even(scaled)) + offset);
  }
  *step = shift * (1 << 23);
}

void finish(const Finish& f) {
  for (int p = 0; p < f.pixels; ++p) {
    float* values = f.values + p * f.value_stride;
    const float* residual = f.residual ? f.residual + p * f.residual_stride : nullptr;
    for (int c = 0; c < f.lanes; ++c) {
      float value = values[c];
      if (f.gain) value *= f.gain[c];
      if (f.bias) value += f.bias[c];
      if (residual) value += residual[c];
      values[c] = f.relu ? (value > 0.0f ? value : 0.0f) : value;
    }
    if (f.floats) __builtin_memcpy(f.floats + p * f.float_stride, values, f.lanes * sizeof(float));
    if (!f.mantissas) continue;
    for (int b = 0; b * f.length < f.lanes; ++b)
      quantize_block(f, values + b * f.length, f.mantissas + p * f.pixel_bytes + b * f.length, f.steps + p * f.pixel_steps + b);
  }
}

bool available() { return true; }

}  // namespace

const Isa& generic_isa() {
  static const Isa isa{"generic", available, tile, finish, maximum, add, multiply, activate, normalize, filter};
  return isa;
}
