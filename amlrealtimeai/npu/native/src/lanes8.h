// Tiles and finishing in 256-bit registers, shared by AVX2 and AVX-VNNI; what differs is a `Product`: how the mantissas
// of a block are multiplied and summed.
//
//   kPixels                     pixels x 16 channels that a register tile holds: as many as 16 registers take
//   block<Pixels, Quads>(...)   dot[pixel][0..1] = the exact sums over one block for 16 channels
#pragma once
#include <cpuid.h>
#include <immintrin.h>

#include "isa.h"
#include "loops.h"

namespace {

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline __m256i broadcast_quad(const uint8_t* p) {
  int32_t quad;
  __builtin_memcpy(&quad, p, 4);
  return _mm256_set1_epi32(quad);
}

// Where a register tile begins: pixel `pixel`, and channels 0..15 or 16..31 of the panel.
struct Part {
  int pixel, half;
};

// Quads: multiples of four mantissas in a block, known at compile time where it pays; 0: read from the tile.
template <class Product, int Pixels, int Quads>
__attribute__((noinline)) void part_of(const Tile& t, Part part) {
  constexpr int kHeader = (Product::kSigned ? 2 : 1) * kPanel * int(sizeof(int32_t));
  const int quads = Quads ? Quads : t.length / 4;
  __m256 total[Pixels][2];
  for (auto& pixel : total) pixel[0] = pixel[1] = _mm256_setzero_ps();
  const uint8_t* block = t.weights + 64 * part.half;
  for (int tap = 0; tap < t.taps; ++tap) {
    const uint8_t* mantissas = t.mantissas + t.tap_bytes[tap] + part.pixel * t.pixel_bytes;
    const int32_t* steps = t.steps + t.tap_steps[tap] + part.pixel * t.pixel_steps;
    for (int b = 0; b < t.blocks; ++b) {
      __m256i dot[Pixels][2];
      Product::template block<Pixels, Quads>(dot, mantissas, t.pixel_bytes, block, block + kHeader, quads);
      const __m256i low = load(block), high = load(block + 32);
      for (int p = 0; p < Pixels; ++p) {
        const __m256i step = _mm256_set1_epi32(steps[p * t.pixel_steps]);
        const __m256 scale_low = _mm256_castsi256_ps(_mm256_add_epi32(low, step));
        const __m256 scale_high = _mm256_castsi256_ps(_mm256_add_epi32(high, step));
        total[p][0] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[p][0]), scale_low, total[p][0]);
        total[p][1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[p][1]), scale_high, total[p][1]);
      }
      block += kHeader + 128 * quads;
      mantissas += 4 * quads;
      steps += t.block_steps;
    }
  }
  for (int p = 0; p < Pixels; ++p) {
    float* totals = t.totals + (part.pixel + p) * t.total_stride + 16 * part.half;
    _mm256_storeu_ps(totals, total[p][0]);
    _mm256_storeu_ps(totals + 8, total[p][1]);
  }
}

// As part_of, for 1..Most pixels.
template <class Product, int Quads, int Most>
void part_for(const Tile& t, int pixels, Part part) {
  if constexpr (Most > 1)
    if (pixels < Most) return part_for<Product, Quads, Most - 1>(t, pixels, part);
  part_of<Product, Most, Quads>(t, part);
}

template <class Product, int Quads>
void tile_of(const Tile& t, int pixels) {
  constexpr int kMost = Product::kPixels;
  for (int half = 0; half < 2; ++half)
    for (int p = 0; p < pixels; p += kMost)
      part_for<Product, Quads, kMost>(t, pixels - p < kMost ? pixels - p : kMost, {p, half});
}

template <class Product>
void tile_for(const Tile& t, int pixels) {
  if constexpr (!Product::kSigned) switch (t.length) {
      case 16: return tile_of<Product, 4>(t, pixels);
      case 64: return tile_of<Product, 16>(t, pixels);
      case 128: return tile_of<Product, 32>(t, pixels);
    }
  tile_of<Product, 0>(t, pixels);
}

// Eight floats; or, as blocks are multiples of 4, the last four and zeros. Without blocks channels may end anywhere, and
// the padding lanes behind them take part.
template <bool Half>
inline __m256 read(const float* p) {
  return Half ? _mm256_zextps128_ps256(_mm_loadu_ps(p)) : _mm256_loadu_ps(p);
}

template <bool Half>
inline void write(float* p, __m256 v) {
  Half ? _mm_storeu_ps(p, _mm256_castps256_ps128(v)) : _mm256_storeu_ps(p, v);
}

struct Quantizer {
  __m256 limit, lower;
  __m256i offset;
  int mantissa_bits, lowest, highest;

  explicit Quantizer(const Finish& f)
      : limit(_mm256_set1_ps(float((1 << f.mantissa_bits) - 1))),
        lower(_mm256_set1_ps(-float((1 << f.mantissa_bits) - 1))),
        offset(_mm256_set1_epi32(f.is_signed ? 128 : 0)),
        mantissa_bits(f.mantissa_bits),
        lowest(f.lowest_exponent),
        highest(f.highest_exponent) {}

  // The step of a block whose largest magnitude is among these bits.
  int step(__m256i magnitudes) const {
    __m128i most = _mm_max_epi32(_mm256_castsi256_si128(magnitudes), _mm256_extracti128_si256(magnitudes, 1));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
    int exponent = (_mm_cvtsi128_si32(most) >> 23) - 127;
    exponent = exponent < lowest ? lowest : exponent;
    exponent = exponent > highest ? highest : exponent;
    return exponent - (mantissa_bits - 1);
  }

  // Eight mantissas, one a byte, in the low half.
  __m128i mantissas(__m256 values, __m256 inverse) const {
    const __m256 scaled = _mm256_max_ps(_mm256_min_ps(_mm256_mul_ps(values, inverse), limit), lower);
    const __m256i whole = _mm256_add_epi32(_mm256_cvtps_epi32(scaled), offset);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    return _mm_packus_epi16(words, words);
  }
};

inline __m256i magnitude_bits(__m256 v) {
  return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
}

// Where the values of one block of one pixel come from and go to; null where there is none.
struct Lines {
  float* values;
  const float *gain, *bias, *residual;
  float* floats;

  Lines(const Finish& f, int pixel, int begin)
      : values(f.values + pixel * f.value_stride + begin),
        gain(f.gain ? f.gain + begin : nullptr),
        bias(f.bias ? f.bias + begin : nullptr),
        residual(f.residual ? f.residual + pixel * f.residual_stride + begin : nullptr),
        floats(f.floats ? f.floats + pixel * f.float_stride + begin : nullptr) {}
};

// Gain, bias, residual and ReLU of the 8 (or 4) channels at c.
template <bool Residual, bool Half>
inline __m256 finished(const Lines& lines, bool relu, int c) {
  __m256 v = read<Half>(lines.values + c);
  if (lines.gain) v = _mm256_mul_ps(v, read<Half>(lines.gain + c));
  if (lines.bias) v = _mm256_add_ps(v, read<Half>(lines.bias + c));
  if (Residual) v = _mm256_add_ps(v, read<Half>(lines.residual + c));
  if (relu) v = _mm256_max_ps(v, _mm256_setzero_ps());
  write<Half>(lines.values + c, v);
  if (lines.floats) write<Half>(lines.floats + c, v);
  return v;
}

template <bool Residual>
void finish_with(const Finish& f) {
  const Quantizer quantizer(f);
  const int length = f.mantissas ? f.length : f.lanes;
  for (int p = 0; p < f.pixels; ++p) {
    for (int begin = 0, b = 0; begin < f.lanes; begin += length, ++b) {
      const Lines lines(f, p, begin);
      const int whole = (length + 3) / 8 * 8;
      __m256i largest = _mm256_setzero_si256();
      for (int c = 0; c < whole; c += 8)
        largest = _mm256_max_epi32(largest, magnitude_bits(finished<Residual, false>(lines, f.relu, c)));
      if (whole < length)
        largest = _mm256_max_epi32(largest, magnitude_bits(finished<Residual, true>(lines, f.relu, whole)));
      if (!f.mantissas) continue;
      const int step = quantizer.step(largest);
      const __m256 inverse = _mm256_castsi256_ps(_mm256_set1_epi32((127 - step) << 23));
      uint8_t* mantissas = f.mantissas + p * f.pixel_bytes + begin;
      for (int c = 0; c < whole; c += 8)
        _mm_storeu_si64(mantissas + c, quantizer.mantissas(read<false>(lines.values + c), inverse));
      if (whole < length)
        _mm_storeu_si32(mantissas + whole, quantizer.mantissas(read<true>(lines.values + whole), inverse));
      f.steps[p * f.pixel_steps + b] = step * (1 << 23);
    }
  }
}

void finish(const Finish& f) { f.residual ? finish_with<true>(f) : finish_with<false>(f); }

bool has_avx2() {
  unsigned a, b, c, d;
  const unsigned needed = (1u << 12) | (1u << 27);  // FMA, OSXSAVE
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & needed) != needed) return false;
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 6) != 6) return false;  // the system saves the 256-bit registers
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 5));
}

}  // namespace
