// AVX2: vpmaddubsw multiplies 32 pairs of mantissas and adds neighbours, in 16 bits, which saturate.
// It stays exact: a mantissa's magnitude is at most M = 2^m - 1 <= 127, so a sum of two products is at most
// 2 * M^2 <= 32258, and short mantissas allow several such sums before they have to be widened to 32 bits. Mantissas
// stored with +128 would not fit: the offset is taken off and the sign is moved to the weight.
// 4 pixels x 16 channels: 8 accumulators, 2 for weights, the rest for activations and products.
#if defined(__x86_64__)
#include "lanes8.h"

namespace {

// What vpmaddubsw gets as weights (unsigned) and activations (signed): |w| and a * sign(w), or the plain ones.
template <bool Signed>
inline __m256i pair_sums(__m256i activations, __m256i weights, __m256i magnitudes) {
  if (Signed) return _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(activations, weights));
  return _mm256_maddubs_epi16(activations, weights);
}

inline __m256i widened(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// Sums: how many pair sums fit 16 bits.
template <bool Signed, int Sums>
struct Product {
  static constexpr bool kSigned = Signed;
  static constexpr int kPixels = 4;

  template <int Pixels, int Quads>
  static inline void block(__m256i (&dot)[Pixels][2], const uint8_t* mantissas, ptrdiff_t pixel_bytes, const uint8_t*,
                           const uint8_t* weights, int quads) {
    for (auto& pixel : dot) pixel[0] = pixel[1] = _mm256_setzero_si256();
    if (Sums == 1) return add_quads(dot, mantissas, pixel_bytes, weights, quads);
    for (int k = 0; k < quads; k += Sums) {
      __m256i sums[Pixels][2];
      for (auto& pixel : sums) pixel[0] = pixel[1] = _mm256_setzero_si256();
      const int some = quads - k < Sums ? quads - k : Sums;
      add_quads(sums, mantissas + 4 * k, pixel_bytes, weights + 128 * k, some);
      for (int p = 0; p < Pixels; ++p)
        for (int i = 0; i < 2; ++i) dot[p][i] = _mm256_add_epi32(dot[p][i], widened(sums[p][i]));
    }
  }

  template <int Pixels>
  static inline void add_quads(__m256i (&sums)[Pixels][2], const uint8_t* mantissas, ptrdiff_t pixel_bytes,
                               const uint8_t* weights, int quads) {
    const __m256i offset = _mm256_set1_epi8(Signed ? -128 : 0);
#pragma clang loop unroll_count(4)
    for (int k = 0; k < quads; ++k) {
      const __m256i low = load(weights + 128 * k), high = load(weights + 128 * k + 32);
      const __m256i low_size = _mm256_abs_epi8(low), high_size = _mm256_abs_epi8(high);
      for (int p = 0; p < Pixels; ++p) {
        const __m256i activations = _mm256_xor_si256(broadcast_quad(mantissas + p * pixel_bytes + 4 * k), offset);
        add(sums[p][0], pair_sums<Signed>(activations, low, low_size));
        add(sums[p][1], pair_sums<Signed>(activations, high, high_size));
      }
    }
  }

  // Inline assembly keeps the accumulators where they are; with the intrinsic, compilers reorder the sums and spill.
  static inline void add(__m256i& total, __m256i pairs) {
    if (Sums == 1) __asm__("vpaddd %1, %0, %0" : "+x"(total) : "x"(widened(pairs)));
    else __asm__("vpaddw %1, %0, %0" : "+x"(total) : "x"(pairs));
  }
};

template <int Sums>
void tile_with(const Tile& t, int pixels) {
  t.is_signed ? tile_for<Product<true, Sums>>(t, pixels) : tile_for<Product<false, Sums>>(t, pixels);
}

constexpr bool fit(int sums, int mantissa_bits) {
  const int most = (1 << mantissa_bits) - 1;
  return sums * 2 * most * most <= 32767;
}

void tile(const Tile& t, int pixels) {
  static_assert(fit(16, 5) && fit(4, 6) && fit(1, 7));
  if (t.mantissa_bits <= 5) return tile_with<16>(t, pixels);
  if (t.mantissa_bits == 6) return tile_with<4>(t, pixels);
  return tile_with<1>(t, pixels);
}

}  // namespace

const Isa& avx2_isa() {
  static const Isa isa = isa_with("avx2", has_avx2, tile);
  return isa;
}
#endif
