// Sixteen float lanes (AVX-512): bias, residual, ReLU and quantising, shared by the instruction sets that have them.
#pragma once
#include <cpuid.h>
#include <immintrin.h>

#include "isa.h"

namespace {

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

// The system saves the AVX-512 registers and the CPU has F, DQ, BW, VL and VNNI.
bool has_avx512vnni() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return false;  // OSXSAVE
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0xe6) != 0xe6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const unsigned needed = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
  return (b & needed) == needed && (c & (1u << 11));
}

}  // namespace
