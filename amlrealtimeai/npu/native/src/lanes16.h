// Sixteen float lanes (AVX-512): gain, bias, residual, ReLU and quantising, shared by the instruction sets that have them.
#pragma once
#include <cpuid.h>
#include <immintrin.h>

#include "isa.h"

namespace {

struct Quantizer {
  __m512 limit, lower;
  __m512i offset, lowest, highest, mantissa_bits;

  explicit Quantizer(const Finish& f)
      : limit(_mm512_set1_ps(float((1 << f.mantissa_bits) - 1))),
        lower(_mm512_set1_ps(-float((1 << f.mantissa_bits) - 1))),
        offset(_mm512_set1_epi32(f.is_signed ? 128 : 0)),
        lowest(_mm512_set1_epi32(f.lowest_exponent)),
        highest(_mm512_set1_epi32(f.highest_exponent)),
        mantissa_bits(_mm512_set1_epi32(f.mantissa_bits)) {}

  // Steps of blocks, each lane for itself, from the bits of the blocks' largest magnitudes.
  __m512i steps(__m512i largest) const {
    const __m512i exponents = _mm512_sub_epi32(_mm512_srli_epi32(largest, 23), _mm512_set1_epi32(127));
    const __m512i clamped = _mm512_min_epi32(_mm512_max_epi32(exponents, lowest), highest);
    return _mm512_sub_epi32(_mm512_add_epi32(clamped, _mm512_set1_epi32(1)), mantissa_bits);
  }

  static __m512 inverse(__m512i steps) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_sub_epi32(_mm512_set1_epi32(127), steps), 23));
  }

  __m512i mantissas(__m512 values, __m512 inverse) const {
    const __m512 scaled = _mm512_max_ps(_mm512_min_ps(_mm512_mul_ps(values, inverse), limit), lower);
    return _mm512_add_epi32(_mm512_cvtps_epi32(scaled), offset);
  }
};

inline __m512i magnitude_bits(__m512 v) {
  return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
}

inline __m512i larger(__m512i a, __m512i b) { return _mm512_max_epi32(a, b); }

// The largest lane, in every lane.
inline __m512i largest_lane(__m512i v) {
  v = larger(v, _mm512_shuffle_i32x4(v, v, 0x4e));
  v = larger(v, _mm512_shuffle_i32x4(v, v, 0xb1));
  v = larger(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
  return larger(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
}

// Four vectors' largest lanes: lane i of each 128 bits holds that of vector i.
inline __m512i largest_lanes(const __m512i (&v)[4]) {
  const __m512i ab = larger(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i cd = larger(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  __m512i all = larger(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  all = larger(all, _mm512_shuffle_i32x4(all, all, 0x4e));
  return larger(all, _mm512_shuffle_i32x4(all, all, 0xb1));
}

// 64 mantissas from four vectors of 16.
inline void store_mantissas(uint8_t* to, const __m512i (&q)[4]) {
  const __m512i low = _mm512_packus_epi32(q[0], q[1]), high = _mm512_packus_epi32(q[2], q[3]);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(to, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
}

// What a finish has besides bias and ReLU.
enum class Extra { kNone, kGain, kResidual };

// One pixel's pointers; `gain`, `residual` and `floats` may be null.
struct Pixel {
  const float *values, *gain, *bias, *residual;
  float* floats;
  uint8_t* mantissas;
  int32_t* steps;

  Pixel(const Finish& f, int p)
      : values(f.values + p * f.value_stride),
        gain(f.gain),
        bias(f.bias),
        residual(f.residual ? f.residual + p * f.residual_stride : nullptr),
        floats(f.floats ? f.floats + p * f.float_stride : nullptr),
        mantissas(f.mantissas ? f.mantissas + p * f.pixel_bytes : nullptr),
        steps(f.mantissas ? f.steps + p * f.pixel_steps : nullptr) {}

  // Channels c..c+15, finished and stored as floats; `floor` is 0 for ReLU, else minus infinity.
  template <Extra E>
  __m512 finished(int c, __m512 floor) const {
    __m512 v = _mm512_loadu_ps(values + c);
    if (E == Extra::kGain) v = _mm512_mul_ps(v, _mm512_loadu_ps(gain + c));
    if (bias) v = _mm512_add_ps(v, _mm512_loadu_ps(bias + c));
    if (E == Extra::kResidual) v = _mm512_add_ps(v, _mm512_loadu_ps(residual + c));
    v = _mm512_max_ps(v, floor);
    if (floats) _mm512_storeu_ps(floats + c, v);
    return v;
  }
};

// Blocks of 16: four at a time, so that their maxima share the shuffles.
template <Extra E>
void finish_short(const Finish& f, const Quantizer& quantizer, __m512 floor) {
  for (int p = 0; p < f.pixels; ++p) {
    const Pixel pixel(f, p);
    for (int c = 0; c < f.lanes; c += 64) {
      __m512 v[4];
      __m512i magnitudes[4], q[4];
      for (int i = 0; i < 4; ++i) {
        v[i] = pixel.finished<E>(c + 16 * i, floor);
        magnitudes[i] = magnitude_bits(v[i]);
      }
      const __m512i steps = quantizer.steps(largest_lanes(magnitudes));
      const __m512i inverse = _mm512_castps_si512(Quantizer::inverse(steps));
      q[0] = quantizer.mantissas(v[0], _mm512_castsi512_ps(_mm512_shuffle_epi32(inverse, _MM_PERM_AAAA)));
      q[1] = quantizer.mantissas(v[1], _mm512_castsi512_ps(_mm512_shuffle_epi32(inverse, _MM_PERM_BBBB)));
      q[2] = quantizer.mantissas(v[2], _mm512_castsi512_ps(_mm512_shuffle_epi32(inverse, _MM_PERM_CCCC)));
      q[3] = quantizer.mantissas(v[3], _mm512_castsi512_ps(_mm512_shuffle_epi32(inverse, _MM_PERM_DDDD)));
      store_mantissas(pixel.mantissas + c, q);
      const __m128i four = _mm512_castsi512_si128(_mm512_slli_epi32(steps, 23));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(pixel.steps + c / 16), four);
    }
  }
}

// Blocks of 64 or 128, which stay in registers between the two passes.
template <int Vectors, Extra E>
void finish_long(const Finish& f, const Quantizer& quantizer, __m512 floor) {
  for (int p = 0; p < f.pixels; ++p) {
    const Pixel pixel(f, p);
    for (int c = 0, b = 0; c < f.lanes; c += 16 * Vectors, ++b) {
      __m512 v[Vectors];
      __m512i largest = _mm512_setzero_si512();
      for (int i = 0; i < Vectors; ++i) {
        v[i] = pixel.finished<E>(c + 16 * i, floor);
        largest = larger(largest, magnitude_bits(v[i]));
      }
      const __m512i steps = quantizer.steps(largest_lane(largest));
      const __m512 inverse = Quantizer::inverse(steps);
      for (int i = 0; i < Vectors; i += 4) {
        const __m512i q[4] = {quantizer.mantissas(v[i], inverse), quantizer.mantissas(v[i + 1], inverse),
                              quantizer.mantissas(v[i + 2], inverse), quantizer.mantissas(v[i + 3], inverse)};
        store_mantissas(pixel.mantissas + c + 16 * i, q);
      }
      pixel.steps[b] = _mm512_cvtsi512_si32(_mm512_slli_epi32(steps, 23));
    }
  }
}

// Any block length, and floats only: with masks for the last lanes.
void finish_any(const Finish& f, const Quantizer& quantizer, __m512 floor) {
  const int length = f.mantissas ? f.length : f.lanes;
  for (int p = 0; p < f.pixels; ++p) {
    const Pixel pixel(f, p);
    float* values = f.values + p * f.value_stride;
    for (int begin = 0, b = 0; begin < f.lanes; begin += length, ++b) {
      __m512i largest = _mm512_setzero_si512();
      for (int c = begin; c < begin + length; c += 16) {
        const int left = begin + length - c;
        const __mmask16 mask = left >= 16 ? 0xffff : __mmask16((1u << left) - 1);
        __m512 v = _mm512_maskz_loadu_ps(mask, values + c);
        if (f.gain) v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, f.gain + c));
        if (f.bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, f.bias + c));
        if (pixel.residual) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, pixel.residual + c));
        v = _mm512_max_ps(v, floor);
        if (pixel.floats) _mm512_mask_storeu_ps(pixel.floats + c, mask, v);
        _mm512_mask_storeu_ps(values + c, mask, v);
        largest = larger(largest, _mm512_maskz_mov_epi32(mask, magnitude_bits(v)));
      }
      if (!f.mantissas) continue;
      const __m512i steps = quantizer.steps(largest_lane(largest));
      const __m512 inverse = Quantizer::inverse(steps);
      for (int c = begin; c < begin + length; c += 16) {
        const int left = begin + length - c;
        const __mmask16 mask = left >= 16 ? 0xffff : __mmask16((1u << left) - 1);
        const __m512i q = quantizer.mantissas(_mm512_maskz_loadu_ps(mask, values + c), inverse);
        _mm512_mask_cvtepi32_storeu_epi8(pixel.mantissas + c, mask, q);
      }
      pixel.steps[b] = _mm512_cvtsi512_si32(_mm512_slli_epi32(steps, 23));
    }
  }
}

template <Extra E>
void finish_with(const Finish& f) {
  const Quantizer quantizer(f);
  const __m512 floor = _mm512_set1_ps(f.relu ? 0.0f : -__builtin_inff());
  const int length = f.mantissas ? f.length : 0;
  if (length == 16 && f.lanes % 64 == 0) return finish_short<E>(f, quantizer, floor);
  if (length == 64) return finish_long<4, E>(f, quantizer, floor);
  if (length == 128) return finish_long<8, E>(f, quantizer, floor);
  finish_any(f, quantizer, floor);
}

void finish(const Finish& f) {
  if (f.residual) return finish_with<Extra::kResidual>(f);
  return f.gain ? finish_with<Extra::kGain>(f) : finish_with<Extra::kNone>(f);
}

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
