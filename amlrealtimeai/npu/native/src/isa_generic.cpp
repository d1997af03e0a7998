// Plain C++ for every CPU: the same packed data and the same order as the reference.
#include "functions.h"

namespace {

inline float as_float(int32_t bits) { return __builtin_bit_cast(float, bits); }

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

bool available() { return true; }

}  // namespace

const Isa& generic_isa() {
  static const Isa isa = isa_with("generic", available, tile);
  return isa;
}
