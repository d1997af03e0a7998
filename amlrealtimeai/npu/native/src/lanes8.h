// Tiles in 256-bit registers, shared by AVX2 and AVX-VNNI; what differs is a `Product`: how the mantissas
// of a block are multiplied and summed.
//
//   kPixels                     pixels x 16 channels that a register tile holds: as many as 16 registers take
//   block<Pixels, Quads>(...)   dot[pixel][0..1] = the exact sums over one block for 16 channels
#pragma once
#include <cpuid.h>
#include <immintrin.h>

#include "functions.h"

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
