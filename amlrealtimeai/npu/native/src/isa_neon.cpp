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

#include "isa.h"
#include "loops.h"
#include "vectors.h"

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

struct Quantizer {
  float32x4_t limit, lower;
  int32x4_t offset;
  int mantissa_bits, lowest, highest;

  explicit Quantizer(const Finish& f)
      : limit(vdupq_n_f32(float((1 << f.mantissa_bits) - 1))),
        lower(vdupq_n_f32(-float((1 << f.mantissa_bits) - 1))),
        offset(vdupq_n_s32(f.is_signed ? 128 : 0)),
        mantissa_bits(f.mantissa_bits),
        lowest(f.lowest_exponent),
        highest(f.highest_exponent) {}

  // The step of a block whose largest magnitude is among these bits.
  int step(int32x4_t magnitudes) const {
    int exponent = (vmaxvq_s32(magnitudes) >> 23) - 127;
    exponent = exponent < lowest ? lowest : exponent;
    exponent = exponent > highest ? highest : exponent;
    return exponent - (mantissa_bits - 1);
  }

  void store(uint8_t* mantissas, float32x4_t values, float32x4_t inverse) const {
    const float32x4_t scaled = vmaxq_f32(vminq_f32(vmulq_f32(values, inverse), limit), lower);
    const int16x4_t words = vmovn_s32(vaddq_s32(vcvtnq_s32_f32(scaled), offset));
    const uint32_t quad = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
    __builtin_memcpy(mantissas, &quad, 4);
  }
};

// Bias, residual and ReLU of `count` channels from `begin` on; returns the magnitudes that an exponent is taken from.
// Without blocks `count` may be no multiple of 4, and the padding lanes behind the channels take part.
int32x4_t finish_values(const Finish& f, int pixel, int begin, int count) {
  int32x4_t largest = vdupq_n_s32(0);
  for (int c = begin; c < begin + count; c += 4) {
    float32x4_t v = vld1q_f32(f.values + pixel * f.value_stride + c);
    if (f.gain) v = vmulq_f32(v, vld1q_f32(f.gain + c));
    if (f.bias) v = vaddq_f32(v, vld1q_f32(f.bias + c));
    if (f.residual) v = vaddq_f32(v, vld1q_f32(f.residual + pixel * f.residual_stride + c));
    if (f.relu) v = vmaxq_f32(v, vdupq_n_f32(0));
    vst1q_f32(f.values + pixel * f.value_stride + c, v);
    if (f.floats) vst1q_f32(f.floats + pixel * f.float_stride + c, v);
    largest = vmaxq_s32(largest, vreinterpretq_s32_f32(vabsq_f32(v)));
  }
  return largest;
}

void finish(const Finish& f) {
  const Quantizer quantizer(f);
  const int length = f.mantissas ? f.length : f.lanes;
  for (int p = 0; p < f.pixels; ++p) {
    const float* values = f.values + p * f.value_stride;
    for (int begin = 0, b = 0; begin < f.lanes; begin += length, ++b) {
      const int32x4_t largest = finish_values(f, p, begin, length);
      if (!f.mantissas) continue;
      const int step = quantizer.step(largest);
      const float32x4_t inverse = vreinterpretq_f32_s32(vdupq_n_s32((127 - step) << 23));
      for (int c = begin; c < begin + length; c += 4)
        quantizer.store(f.mantissas + p * f.pixel_bytes + c, vld1q_f32(values + c), inverse);
      f.steps[p * f.pixel_steps + b] = step * (1 << 23);
    }
  }
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
  static const Isa isa{"neon", available, tile, finish, maximum, add, multiply, activate, normalize, filter};
  return isa;
}
#endif
