// Intel AMX: tdpbusd multiplies 16 pixels x 64 mantissas with 64 x 16 channels in one instruction.
// Two runs of pixels x 32 channels use all eight tile registers: four for dot products, two for activations, two for
// weights. The integer dots of a block go through L1 to AVX-512, which scales and adds them in the order of the
// specification; its work on one block overlaps with the tiles' work on the next.
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#include "functions.h"
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

// Below this block length the scaling takes most of the time and AVX-512 alone is faster.
constexpr int kShortest = 48;
constexpr int kDots0 = 0, kActivations0 = 4, kWeights0 = 6;  // tile registers: 0..3, 4..5, 6..7

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Mantissas of a block that one instruction takes: the largest part of at most 64 that divides the block.
int chunk_of(int length) {
  for (int parts = (length + 63) / 64;; ++parts)
    if (length % (4 * parts) == 0) return length / parts;
}

void configure(const Group& g, int chunk) {
  TileConfig config;
  for (int r = 0; r < 2; ++r) {
    const uint8_t pixels = uint8_t(r < g.run_count ? g.runs[r].pixels : 1);
    for (int half = 0; half < 2; ++half) {
      config.rows[kDots0 + 2 * r + half] = pixels;
      config.row_bytes[kDots0 + 2 * r + half] = 64;
    }
    config.rows[kActivations0 + r] = pixels;
    config.row_bytes[kActivations0 + r] = uint16_t(chunk);
    config.rows[kWeights0 + r] = uint8_t(chunk / 4);
    config.row_bytes[kWeights0 + r] = 64;
  }
  _tile_loadconfig(&config);
}

struct alignas(64) Dots {
  int32_t of[2][2][kRunPixels][16];  // run, half of the panel, pixel, channel
};

// The integer dot products of one block.
template <int Runs>
void dot_block(const Group& g, const uint8_t* block, ptrdiff_t offset, int chunk, Dots& dots) {
  const Tile& t = g.tile;
  const uint8_t* weights = block + kPanel * 4;
  if (t.is_signed) {  // every row of a tile starts from the same 16 numbers: a stride of zero
    _tile_loadd(0, weights, 0);
    _tile_loadd(1, weights + 64, 0);
    if (Runs == 2) _tile_loadd(2, weights, 0);
    if (Runs == 2) _tile_loadd(3, weights + 64, 0);
    weights += kPanel * 4;
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if (Runs == 2) _tile_zero(2);
    if (Runs == 2) _tile_zero(3);
  }
  for (int c = 0; c < t.length; c += chunk, weights += chunk * kPanel) {
    _tile_loadd(6, weights, 128);
    _tile_loadd(4, g.runs[0].mantissas + offset + c, t.pixel_bytes);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, weights + 64, 128);
    _tile_dpbusd(1, 4, 7);
    if (Runs == 1) continue;
    _tile_loadd(5, g.runs[1].mantissas + offset + c, t.pixel_bytes);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_stored(0, dots.of[0][0], 64);
  _tile_stored(1, dots.of[0][1], 64);
  if (Runs == 2) _tile_stored(2, dots.of[1][0], 64);
  if (Runs == 2) _tile_stored(3, dots.of[1][1], 64);
}

// total += dot * 2^(step of the activations + step of the weights), for every pixel of a run.
void scale_block(const Dots& dots, int r, int pixels, const int32_t* steps, ptrdiff_t pixel_steps, const uint8_t* block,
                 float (*totals)[kPanel]) {
  const __m512i low = _mm512_load_si512(block), high = _mm512_load_si512(block + 64);
  for (int p = 0; p < pixels; ++p) {
    const __m512i step = _mm512_set1_epi32(steps[p * pixel_steps]);
    const __m512 scale_low = _mm512_castsi512_ps(_mm512_add_epi32(low, step));
    const __m512 scale_high = _mm512_castsi512_ps(_mm512_add_epi32(high, step));
    const __m512 dot_low = _mm512_cvtepi32_ps(_mm512_load_si512(dots.of[r][0][p]));
    const __m512 dot_high = _mm512_cvtepi32_ps(_mm512_load_si512(dots.of[r][1][p]));
    _mm512_store_ps(totals[p], _mm512_fmadd_ps(dot_low, scale_low, _mm512_load_ps(totals[p])));
    _mm512_store_ps(totals[p] + 16, _mm512_fmadd_ps(dot_high, scale_high, _mm512_load_ps(totals[p] + 16)));
  }
}

// The blocks of a panel in order: where each one's weights, activations and steps are.
struct Cursor {
  const Tile& tile;
  const uint8_t* block;
  int tap = 0, number = 0;

  bool done() const { return tap == tile.taps; }
  int block_bytes() const { return (tile.is_signed ? 2 : 1) * kPanel * 4 + tile.length * kPanel; }
  ptrdiff_t bytes() const { return tile.tap_bytes[tap] + ptrdiff_t(number) * tile.length; }
  ptrdiff_t steps() const { return tile.tap_steps[tap] + ptrdiff_t(number) * tile.block_steps; }
  void advance() {
    block += block_bytes();
    if (++number == tile.blocks) number = 0, ++tap;
  }
};

// The tiles work one block ahead: a vector load that follows a tile's store too closely waits for the store to retire.
template <int Runs>
void panel(const Group& g, const uint8_t* block, int chunk, float (*totals)[kRunPixels][kPanel]) {
  const Tile& t = g.tile;
  Dots dots[2];
  Cursor ahead{t, block}, now{t, block};
  dot_block<Runs>(g, ahead.block, ahead.bytes(), chunk, dots[0]);
  ahead.advance();
  for (int turn = 0; !now.done(); turn ^= 1, now.advance()) {
    if (!ahead.done()) {
      dot_block<Runs>(g, ahead.block, ahead.bytes(), chunk, dots[turn ^ 1]);
      ahead.advance();
    }
    for (int r = 0; r < Runs; ++r)
      scale_block(dots[turn], r, g.runs[r].pixels, g.runs[r].steps + now.steps(), t.pixel_steps, now.block, totals[r]);
  }
}

void group(const Group& g) {
  alignas(64) float totals[2][kRunPixels][kPanel];
  const int chunk = chunk_of(g.tile.length);
  configure(g, chunk);
  for (int i = 0; i < g.panels; ++i) {
    __builtin_memset(totals, 0, sizeof totals);
    const uint8_t* weights = g.tile.weights + i * g.panel_bytes;
    g.run_count == 2 ? panel<2>(g, weights, chunk, totals) : panel<1>(g, weights, chunk, totals);
    for (int r = 0; r < g.run_count; ++r)
      for (int p = 0; p < g.runs[r].pixels; ++p)
        __builtin_memcpy(g.runs[r].totals + p * g.tile.total_stride + i * kPanel, totals[r][p], sizeof totals[r][p]);
  }
  _tile_release();
}

// The CPU has AMX with 8-bit integers and the system lets this process use it.
bool available() {
#if defined(__linux__)
  unsigned a, b, c, d, low, high;
  if (!avx512vnni_isa().available() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const unsigned needed = (1u << 24) | (1u << 25);
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return (d & needed) == needed && (low & 0x60000) == 0x60000 &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

const Isa& amx_isa() {
  static const Isa isa = [] {
    Isa made = isa_with("amx", available, avx512vnni_isa().tile);
    made.group = group;
    made.shortest = kShortest;
    return made;
  }();
  return isa;
}
#endif
