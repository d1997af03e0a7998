// AVX-512 with VNNI: vpdpbusd multiplies 64 pairs of mantissas an instruction.
// 7 pixels x 32 channels fill the registers: 14 integer and 14 float accumulators, two for weights, one for activations.
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#include "functions.h"

namespace {

inline __m512i load(const void* p) { return _mm512_loadu_si512(p); }

// Volatile assembly keeps these instructions in the order in which they are written. Left to themselves, compilers move
// the broadcasts to the front, which takes the registers of the float accumulators: they would be spilled in every block.
inline void dot_product(__m512i& total, __m512i activations, __m512i weights) {
  __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(total) : "v"(activations), "v"(weights));
}

inline __m512i broadcast_quad(const uint8_t* p) {
  __m512i quads;
  __asm__ volatile("vpbroadcastd %1, %0" : "=v"(quads) : "m"(*reinterpret_cast<const uint8_t(*)[4]>(p)));
  return quads;
}

inline __m512i zero() {
  __m512i zeros;
  __asm__ volatile("vpxord %0, %0, %0" : "=v"(zeros));
  return zeros;
}

// Quads: multiples of four mantissas in a block, known at compile time where it pays; 0: read from the tile.
template <int Pixels, int Quads, bool Signed>
__attribute__((noinline)) void tile_of(const Tile& t) {
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
        pixel[0] = Signed ? load(block + 128) : zero();
        pixel[1] = Signed ? load(block + 192) : zero();
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
  if (t.is_signed) switch (t.length) {
      case 16: return tile_of<Pixels, 4, true>(t);
      case 24: return tile_of<Pixels, 6, true>(t);
      case 128: return tile_of<Pixels, 32, true>(t);
      default: return tile_of<Pixels, 0, true>(t);
    }
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

// The system saves the AVX-512 registers and the CPU has F, DQ, BW, VL and VNNI.
bool available() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return false;  // OSXSAVE
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0xe6) != 0xe6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const unsigned needed = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
  return (b & needed) == needed && (c & (1u << 11));
}

}  // namespace

const Isa& avx512vnni_isa() {
  static const Isa isa = isa_with("avx512vnni", available, tile);
  return isa;
}
#endif
