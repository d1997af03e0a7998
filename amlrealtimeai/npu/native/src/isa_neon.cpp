// NEON with dot products (Armv8.2): sdot multiplies 16 pairs of mantissas an instruction, both signed.
// 7 pixels x 8 channels: 14 accumulators, 7 registers of 16 activations each, 2 for weights. Unsigned mantissas are at most
// 127 and need no change; signed ones lose their offset when they are loaded, so `starts` are passed over.
#if defined(__aarch64__)
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "functions.h"


namespace {

// Channels of a register tile; a panel takes four of them.
constexpr int kWidth = 8;

template <bool Signed>
inline int8x16_t without_offset(uint8x16_t mantissas) {
  return vreinterpretq_s8_u8(Signed ? veorq_u8(mantissas, vdupq_n_u8(128)) : mantissas);
}

inline uint8x16_t broadcast_quad(const uint8_t* p) {
  uint32_t quad;
  __builtin_memcpy(&quad, p, 4);
  return vreinterpretq_u8_u32(vdupq_n_u32(quad));
}

// Adds the products with four activations of every pixel: those in lane `Lane`.
template <int Lane, int Pixels>
inline void add_quad(int32x4_t (&dot)[Pixels][2], const int8x16_t (&activations)[Pixels], const uint8_t* weights) {
  const int8x16_t low = vreinterpretq_s8_u8(vld1q_u8(weights)), high = vreinterpretq_s8_u8(vld1q_u8(weights + 16));
  for (int p = 0; p < Pixels; ++p) {
    dot[p][0] = vdotq_laneq_s32(dot[p][0], low, activations[p], Lane);
    dot[p][1] = vdotq_laneq_s32(dot[p][1], high, activations[p], Lane);
  }
}

template <bool Signed, int Pixels>
inline void dot_block(int32x4_t (&dot)[Pixels][2], const uint8_t* mantissas, ptrdiff_t pixel_bytes,
                      const uint8_t* weights, int quads) {
  int8x16_t activations[Pixels];
  for (auto& pixel : dot) pixel[0] = pixel[1] = vdupq_n_s32(0);
  int k = 0;
  for (; k + 4 <= quads; k += 4, weights += 4 * kPanel * 4) {
    for (int p = 0; p < Pixels; ++p)
      activations[p] = without_offset<Signed>(vld1q_u8(mantissas + p * pixel_bytes + 4 * k));
    add_quad<0>(dot, activations, weights);
    add_quad<1>(dot, activations, weights + kPanel * 4);
    add_quad<2>(dot, activations, weights + 2 * kPanel * 4);
    add_quad<3>(dot, activations, weights + 3 * kPanel * 4);
  }
  for (; k < quads; ++k, weights += kPanel * 4) {
    for (int p = 0; p < Pixels; ++p)
      activations[p] = without_offset<Signed>(broadcast_quad(mantissas + p * pixel_bytes + 4 * k));
    add_quad<0>(dot, activations, weights);
  }
}

template <bool Signed, int Pixels>
void part_of(const Tile& t, int channel) {
  constexpr int kHeader = (Signed ? 2 : 1) * kPanel * int(sizeof(int32_t));
  const int quads = t.length / 4;
  float32x4_t total[Pixels][2];
  for (auto& pixel : total) pixel[0] = pixel[1] = vdupq_n_f32(0);
  const uint8_t* block = t.weights + 4 * channel;
  for (int tap = 0; tap < t.taps; ++tap) {
    const uint8_t* mantissas = t.mantissas + t.tap_bytes[tap];
    const int32_t* steps = t.steps + t.tap_steps[tap];
    for (int b = 0; b < t.blocks; ++b) {
      int32x4_t dot[Pixels][2];
      dot_block<Signed>(dot, mantissas, t.pixel_bytes, block + kHeader, quads);
      const int32x4_t low = vreinterpretq_s32_u8(vld1q_u8(block)), high = vreinterpretq_s32_u8(vld1q_u8(block + 16));
      for (int p = 0; p < Pixels; ++p) {
        const int32x4_t step = vdupq_n_s32(steps[p * t.pixel_steps]);
        const float32x4_t scale_low = vreinterpretq_f32_s32(vaddq_s32(low, step));
        const float32x4_t scale_high = vreinterpretq_f32_s32(vaddq_s32(high, step));
        total[p][0] = vfmaq_f32(total[p][0], vcvtq_f32_s32(dot[p][0]), scale_low);
        total[p][1] = vfmaq_f32(total[p][1], vcvtq_f32_s32(dot[p][1]), scale_high);
      }
      block += kHeader + kPanel * t.length;
      mantissas += t.length;
      steps += t.block_steps;
    }
  }
  for (int p = 0; p < Pixels; ++p) {
    vst1q_f32(t.totals + p * t.total_stride + channel, total[p][0]);
    vst1q_f32(t.totals + p * t.total_stride + channel + 4, total[p][1]);
  }
}

// As part_of, for 1..Most pixels.
template <bool Signed, int Most = kPixels>
void part_for(const Tile& t, int pixels, int channel) {
  if constexpr (Most > 1)
    if (pixels < Most) return part_for<Signed, Most - 1>(t, pixels, channel);
  part_of<Signed, Most>(t, channel);
}

void tile(const Tile& t, int pixels) {
  for (int channel = 0; channel < kPanel; channel += kWidth)
    t.is_signed ? part_for<true>(t, pixels, channel) : part_for<false>(t, pixels, channel);
}

bool available() {
#if defined(__linux__)
  constexpr unsigned long kDotProducts = 1ul << 20;  // HWCAP_ASIMDDP
  return getauxval(AT_HWCAP) & kDotProducts;
#elif defined(__APPLE__)
  int has = 0;
  size_t size = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has;
#else
  return false;
#endif
}

}  // namespace

const Isa& neon_isa() {
  static const Isa isa = isa_with("neon", available, tile);
  return isa;
}
#endif
