// AVX-VNNI: vpdpbusd in 256-bit registers, for CPUs without AVX-512.
// 7 pixels x 16 channels: 14 accumulators, one register for weights (the other half is read from memory), one for activations.
#if defined(__x86_64__)
#include "lanes8.h"

namespace {

// Inline assembly keeps the accumulators where they are; with the intrinsic, compilers reorder and spill.
inline void dot_product(__m256i& total, __m256i activations, __m256i weights) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(total) : "x"(activations), "x"(weights));
}

inline void dot_product_from(__m256i& total, __m256i activations, const uint8_t* weights) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0"
          : "+x"(total)
          : "x"(activations), "m"(*reinterpret_cast<const __m256i*>(weights)));
}

template <bool Signed>
struct Product {
  static constexpr bool kSigned = Signed;
  static constexpr int kPixels = 7;

  // `header`: the block's steps, and behind them what takes the offset of signed mantissas off again.
  template <int Pixels, int Quads>
  static inline void block(__m256i (&dot)[Pixels][2], const uint8_t* mantissas, ptrdiff_t pixel_bytes,
                           const uint8_t* header, const uint8_t* weights, int quads) {
    for (auto& pixel : dot) {
      pixel[0] = Signed ? load(header + 128) : _mm256_setzero_si256();
      pixel[1] = Signed ? load(header + 160) : _mm256_setzero_si256();
    }
#pragma clang loop unroll_count(4)
    for (int k = 0; k < quads; ++k) {
      const __m256i low = load(weights + 128 * k);
      for (int p = 0; p < Pixels; ++p) {
        const __m256i activations = broadcast_quad(mantissas + p * pixel_bytes + 4 * k);
        dot_product(dot[p][0], activations, low);
        dot_product_from(dot[p][1], activations, weights + 128 * k + 32);
      }
    }
  }
};

void tile(const Tile& t, int pixels) {
  t.is_signed ? tile_for<Product<true>>(t, pixels) : tile_for<Product<false>>(t, pixels);
}

bool available() {
  unsigned a, b, c, d;
  return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4));
}

}  // namespace

const Isa& avxvnni_isa() {
  static const Isa isa = isa_with("avxvnni", available, tile);
  return isa;
}
#endif
