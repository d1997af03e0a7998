// AVX-512 with VNNI: vpdpbusd multiplies 64 pairs of mantissas an instruction.
// 7 pixels x 32 channels fill the registers: 14 integer and 14 float accumulators, two for weights, one for activations.
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#include "isa.h"
#include "loops.h"

namespace {

inline __m512i load(const void* p) { return _mm512_loadu_si512(p); }

// Inline assembly keeps the accumulators where they are; with the intrinsic, compilers reorder and spill.
inline void dot_product(__m512i& total, __m512i activations, __m512i weights) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(total) : "v"(activations), "v"(weights));
}

inline __m512i broadcast_quad(const uint8_t* p) {
  int32_t quad;
  __builtin_memcpy(&quad, p, 4);
  return _mm512_set1_epi32(quad);
}

// Quads: multiples of four mantissas in a block, known at compile time where it pays; 0: read from the tile.
template <int Pixels, int Quads, bool Signed>
void tile_of(const Tile& t) {
  constexpr int kHeader = (Signed ? 2 : 1) * kPanel * int(sizeof(int32_t));
  const int quads = Quads ? Quads : t.length / 4;
  __m512 total[Pixels][2];
  for (auto& pixel : total) pixel[0] = pixel[1] = _mm512_setzero_ps();
  const uint8_t* block = t.weights;
  for (int tap = 0; tap < t.taps; ++tap) {
    const uint8_t* mantissas = t.mantissas + t.tap_bytes[tap];
    const int32_t* steps = t.steps + t.tap_steps[tap];
    for (int b = 0; b < t.blocks; ++b) {
      __m512i dot[Pixels][2];
      for (auto& pixel : dot) {
        pixel[0] = Signed ? load(block + 128) : _mm512_setzero_si512();
        pixel[1] = Signed ? load(block + 192) : _mm512_setzero_si512();
      }
      const uint8_t* weights = block + kHeader;
#pragma clang loop unroll_count(4)
      for (int k = 0; k < quads; ++k) {
        const __m512i low = load(weights + 128 * k), high = load(weights + 128 * k + 64);
        for (int p = 0; p < Pixels; ++p) {
          const __m512i activations = broadcast_quad(mantissas + p * t.pixel_bytes + 4 * k);
          dot_product(dot[p][0], activations, low);
          dot_product(dot[p][1], activations, high);
        }
      }
      const __m512i low = load(block), high = load(block + 64);
      for (int p = 0; p < Pixels; ++p) {
        const __m512i step = _mm512_set1_epi32(steps[p * t.pixel_steps]);
        const __m512 scale_low = _mm512_castsi512_ps(_mm512_add_epi32(low, step));
        const __m512 scale_high = _mm512_castsi512_ps(_mm512_add_epi32(high, step));
        total[p][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[p][0]), scale_low, total[p][0]);
        total[p][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[p][1]), scale_high, total[p][1]);
      }
      block = weights + 128 * quads;
      mantissas += 4 * quads;
      steps += t.block_steps;
    }
  }
  for (int p = 0; p < Pixels; ++p) {
    _mm512_storeu_ps(t.totals + p * t.total_stride, total[p][0]);
    _mm512_storeu_ps(t.totals + p * t.total_stride + 16, total[p][1]);
  }
}

template <int Pixels>
void tile_for(const Tile& t) {
  if (t.is_signed) return tile_of<Pixels, 0, true>(t);
  switch (t.length) {
    case 16: return tile_of<Pixels, 4, false>(t);
    case 32: return tile_of<Pixels, 8, false>(t);
    case 64: return tile_of<Pixels, 16, false>(t);
    case 128: return tile_of<Pixels, 32, false>(t);
    default: return tile_of<Pixels, 0, false>(t);
  }
}

void tile(const Tile& t, int pixels) {
  switch (pixels) {
    case 1: return tile_for<1>(t);
    case 2: return tile_for<2>(t);
    case 3: return tile_for<3>(t);
    case 4: return tile_for<4>(t);
    case 5: return tile_for<5>(t);
    case 6: return tile_for<6>(t);
    default: return tile_for<7>(t);
  }
}

struct Quantizer {
  __m512 limit, lower;
  __m512i offset;
  int mantissa_bits, lowest, highest;

  explicit Quantizer(const Finish& f)
      : limit(_mm512_set1_ps(float((1 << f.mantissa_bits) - 1))),
        lower(_mm512_set1_ps(-float((1 << f.mantissa_bits) - 1))),
        offset(_mm512_set1_epi32(f.is_signed ? 128 : 0)),
        mantissa_bits(f.mantissa_bits),
        lowest(f.lowest_exponent),
        highest(f.highest_exponent) {}

  // The step of a block whose largest magnitude has these bits.
  int step(int32_t largest) const {
    int exponent = (largest >> 23) - 127;
    exponent = exponent < lowest ? lowest : exponent;
    exponent = exponent > highest ? highest : exponent;
    return exponent - (mantissa_bits - 1);
  }

  __m128i mantissas(__m512 values, __m512 inverse) const {
    const __m512 scaled = _mm512_max_ps(_mm512_min_ps(_mm512_mul_ps(values, inverse), limit), lower);
    return _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(scaled), offset));
  }
};

inline __m512i magnitude_bits(__m512 v) {
  return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
}

inline __mmask16 lanes(int remaining) { return remaining >= 16 ? 0xffff : __mmask16((1u << remaining) - 1); }

template <bool Residual>
inline __m512 finished(const Finish& f, const float* values, const float* residual, int c, __mmask16 mask) {
  __m512 v = _mm512_maskz_loadu_ps(mask, values + c);
  if (f.bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, f.bias + c));
  if (Residual) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, residual + c));
  return f.relu ? _mm512_max_ps(v, _mm512_setzero_ps()) : v;
}

template <bool Residual>
void finish_with(const Finish& f) {
  const Quantizer quantizer(f);
  const int length = f.mantissas ? f.length : f.channels;
  for (int p = 0; p < f.pixels; ++p) {
    float* values = f.values + p * f.value_stride;
    const float* residual = Residual ? f.residual + p * f.residual_stride : nullptr;
    float* floats = f.floats ? f.floats + p * f.float_stride : nullptr;
    uint8_t* mantissas = f.mantissas + p * f.pixel_bytes;
    for (int begin = 0, b = 0; begin < f.channels; begin += length, ++b) {
      __m512i largest = _mm512_setzero_si512();
      for (int c = begin; c < begin + length; c += 16) {
        const __mmask16 mask = lanes(begin + length - c);
        const __m512 v = finished<Residual>(f, values, residual, c, mask);
        if (floats) _mm512_mask_storeu_ps(floats + c, mask, v);
        if (length > 16) _mm512_mask_storeu_ps(values + c, mask, v);
        largest = _mm512_max_epi32(largest, magnitude_bits(v));
        if (length <= 16 && f.mantissas) {
          const int step = quantizer.step(_mm512_reduce_max_epi32(largest));
          const __m512 inverse = _mm512_castsi512_ps(_mm512_set1_epi32((127 - step) << 23));
          _mm_mask_storeu_epi8(mantissas + c, mask, quantizer.mantissas(v, inverse));
          f.steps[p * f.pixel_steps + b] = step * (1 << 23);
        }
      }
      if (length <= 16 || !f.mantissas) continue;
      const int step = quantizer.step(_mm512_reduce_max_epi32(largest));
      const __m512 inverse = _mm512_castsi512_ps(_mm512_set1_epi32((127 - step) << 23));
      for (int c = begin; c < begin + length; c += 16) {
        const __mmask16 mask = lanes(begin + length - c);
        const __m512 v = _mm512_maskz_loadu_ps(mask, values + c);
        _mm_mask_storeu_epi8(mantissas + c, mask, quantizer.mantissas(v, inverse));
      }
      f.steps[p * f.pixel_steps + b] = step * (1 << 23);
    }
  }
}

void finish(const Finish& f) { f.residual ? finish_with<true>(f) : finish_with<false>(f); }

bool available() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return false;  // OSXSAVE
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0xe6) != 0xe6) return false;  // the system saves the AVX-512 registers
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const unsigned needed = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);  // F, DQ, BW, VL
  return (b & needed) == needed && (c & (1u << 11));                          // VNNI
}

}  // namespace

const Isa& avx512vnni_isa() {
  static const Isa isa{"avx512vnni", available, tile, finish, maximum, add, multiply};
  return isa;
}
#endif
