// Gain, bias, residual, ReLU and quantising, compiled once for each instruction set.
#pragma once
#include "wide.h"

namespace {

// From the largest magnitudes of blocks to mantissas. Adding 1.5 * 2^23 to |x| <= 127 rounds to the nearest integer,
// halves to even, and leaves that integer in the low byte; another 128 goes in with it where mantissas are stored so.
struct Quantizer {
  float limit, magic;
  int mantissa_bits, lowest, highest;

  explicit Quantizer(const Finish& f)
      : limit(float((1 << f.mantissa_bits) - 1)),
        magic(f.is_signed ? 12583040.0f : 12582912.0f),
        mantissa_bits(f.mantissa_bits),
        lowest(f.lowest_exponent),
        highest(f.highest_exponent) {}

  Ints steps(Ints largest) const {
    return smaller(larger((largest >> 23) - 127, all(lowest)), all(highest)) - (mantissa_bits - 1);
  }
  static Floats inverse(Ints steps) { return floats((127 - steps) << 23); }

  template <bool Signed>
  Bytes mantissas(Floats values, Floats inverse) const {
    Floats scaled = smaller(values * inverse, all(limit));
    if (Signed) scaled = larger(scaled, all(-limit));
    return __builtin_convertvector(bits(scaled + magic), Bytes);
  }
};

// The bits of |v|, which are ordered like the values; only tensors that are never negative are not Signed.
template <bool Signed>
inline Ints magnitude(Floats v) {
  return Signed ? bits(v) & 0x7fffffff : bits(v);
}

// Lane i of each four lanes: the largest lane of vector i.
inline Ints largest_lanes(const Ints (&v)[4]) {
#define FOURS(a, b, i, j, k, l)                                                                                 \
  __builtin_shufflevector(a, b, i, j, k, l, (i) + 4, (j) + 4, (k) + 4, (l) + 4, (i) + 8, (j) + 8, (k) + 8, (l) + 8, \
                          (i) + 12, (j) + 12, (k) + 12, (l) + 12)
  const Ints ab = larger(FOURS(v[0], v[1], 0, 16, 1, 17), FOURS(v[0], v[1], 2, 18, 3, 19));
  const Ints cd = larger(FOURS(v[2], v[3], 0, 16, 1, 17), FOURS(v[2], v[3], 2, 18, 3, 19));
  Ints most = larger(FOURS(ab, cd, 0, 1, 16, 17), FOURS(ab, cd, 2, 3, 18, 19));
#undef FOURS
  most = larger(most, __builtin_shufflevector(most, most, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  return larger(most, __builtin_shufflevector(most, most, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
}

// What a finish has besides bias and ReLU.
enum class Extra { kNone, kGain, kResidual };

// One pixel's pointers; all but `values` may be null.
struct Pixel {
  float* values;
  const float *gain, *bias, *residual;
  float* floats;
  uint8_t* mantissas;
  int32_t* steps;
  float floor;  // 0 for ReLU, else minus infinity

  Pixel(const Finish& f, int p)
      : values(f.values + p * f.value_stride),
        gain(f.gain),
        bias(f.bias),
        residual(f.residual ? f.residual + p * f.residual_stride : nullptr),
        floats(f.floats ? f.floats + p * f.float_stride : nullptr),
        mantissas(f.mantissas ? f.mantissas + p * f.pixel_bytes : nullptr),
        steps(f.mantissas ? f.steps + p * f.pixel_steps : nullptr),
        floor(f.relu ? 0.0f : -__builtin_inff()) {}

  // Lanes c..c+15, finished and stored as floats.
  template <Extra E>
  Floats finished(int c) const {
    Floats v = loaded(values + c);
    if (E == Extra::kGain) v = v * loaded(gain + c);
    if (bias) v = v + loaded(bias + c);
    if (E == Extra::kResidual) v = v + loaded(residual + c);
    v = larger(v, all(floor));
    if (floats) stored(floats + c, v);
    return v;
  }

  // The same for `count` lanes, fewer than 16; the others become 0.
  template <Extra E>
  Floats finished(int c, int count) const {
    Floats v = loaded(values + c, count);
    if (E == Extra::kGain) v = v * loaded(gain + c, count);
    if (bias) v = v + loaded(bias + c, count);
    if (E == Extra::kResidual) v = v + loaded(residual + c, count);
    v = larger(v, all(floor));
    if (floats) stored(floats + c, v, count);
    return v;
  }
};

template <Extra E>
void finish_floats(const Finish& f) {
  const int whole = f.lanes / kWide * kWide;
  for (int p = 0; p < f.pixels; ++p) {
    const Pixel pixel(f, p);
    for (int c = 0; c < whole; c += kWide) pixel.finished<E>(c);
    if (whole < f.lanes) pixel.finished<E>(whole, f.lanes - whole);
  }
}

// Blocks of 16: four at a time, so that their maxima share the shuffles.
template <Extra E, bool Signed>
void finish_short(const Finish& f) {
  const Quantizer quantizer(f);
  for (int p = 0; p < f.pixels; ++p) {
    const Pixel pixel(f, p);
    for (int c = 0; c < f.lanes; c += 4 * kWide) {
      Floats v[4];
      Ints magnitudes[4];
      for (int i = 0; i < 4; ++i) {
        v[i] = pixel.finished<E>(c + kWide * i);
        magnitudes[i] = magnitude<Signed>(v[i]);
      }
      const Ints steps = quantizer.steps(largest_lanes(magnitudes));
      const Floats inverse = Quantizer::inverse(steps);
#define LANE(i) __builtin_shufflevector(inverse, inverse, i, i, i, i, 4 + i, 4 + i, 4 + i, 4 + i, 8 + i, 8 + i, 8 + i, \
                                        8 + i, 12 + i, 12 + i, 12 + i, 12 + i)
      const Floats inverses[4] = {LANE(0), LANE(1), LANE(2), LANE(3)};
#undef LANE
      for (int i = 0; i < 4; ++i) stored(pixel.mantissas + c + kWide * i, quantizer.mantissas<Signed>(v[i], inverses[i]));
      const Ints shifted = steps << 23;
      __builtin_memcpy(pixel.steps + c / kWide, &shifted, 4 * sizeof(int32_t));
    }
  }
}

// Blocks of 64 or 128, which stay in registers between the two passes where there are so many.
template <int Vectors, Extra E, bool Signed>
void finish_long(const Finish& f) {
  const Quantizer quantizer(f);
  for (int p = 0; p < f.pixels; ++p) {
    const Pixel pixel(f, p);
    for (int c = 0, b = 0; c < f.lanes; c += kWide * Vectors, ++b) {
      Floats v[Vectors];
      Ints largest = {};
      for (int i = 0; i < Vectors; ++i) {
        v[i] = pixel.finished<E>(c + kWide * i);
        largest = larger(largest, magnitude<Signed>(v[i]));
      }
      const Ints steps = quantizer.steps(all(__builtin_reduce_max(largest)));
      const Floats inverse = Quantizer::inverse(steps);
      for (int i = 0; i < Vectors; ++i) stored(pixel.mantissas + c + kWide * i, quantizer.mantissas<Signed>(v[i], inverse));
      pixel.steps[b] = steps[0] << 23;
    }
  }
}

template <Extra E, bool Signed>
void finish_any(const Finish& f) {
  const Quantizer quantizer(f);
  const int whole = f.length / kWide * kWide, rest = f.length - whole;
  for (int p = 0; p < f.pixels; ++p) {
    const Pixel pixel(f, p);
    for (int begin = 0, b = 0; begin < f.lanes; begin += f.length, ++b) {
      Ints largest = {};
      for (int c = begin; c < begin + whole; c += kWide) {
        const Floats v = pixel.finished<E>(c);
        stored(pixel.values + c, v);
        largest = larger(largest, magnitude<Signed>(v));
      }
      Floats last = {};
      if (rest) last = pixel.finished<E>(begin + whole, rest);
      const Ints steps = quantizer.steps(all(__builtin_reduce_max(larger(largest, magnitude<Signed>(last)))));
      const Floats inverse = Quantizer::inverse(steps);
      uint8_t* mantissas = pixel.mantissas + begin;
      for (int c = 0; c < whole; c += kWide)
        stored(mantissas + c, quantizer.mantissas<Signed>(loaded(pixel.values + begin + c), inverse));
      if (rest) stored(mantissas + whole, quantizer.mantissas<Signed>(last, inverse), rest);
      pixel.steps[b] = steps[0] << 23;
    }
  }
}

template <Extra E, bool Signed>
void finish_blocks(const Finish& f) {
  if (f.length == 16 && f.lanes % 64 == 0) return finish_short<E, Signed>(f);
  if (f.length == 64) return finish_long<4, E, Signed>(f);
  if (f.length == 128) return finish_long<8, E, Signed>(f);
  finish_any<E, Signed>(f);
}

template <Extra E>
void finish_with(const Finish& f) {
  if (!f.mantissas) return finish_floats<E>(f);
  f.is_signed ? finish_blocks<E, true>(f) : finish_blocks<E, false>(f);
}

void finish(const Finish& f) {
  if (f.residual) return finish_with<Extra::kResidual>(f);
  return f.gain ? finish_with<Extra::kGain>(f) : finish_with<Extra::kNone>(f);
}

// The bits of the largest magnitude.
int32_t largest(const float* values, int64_t count) {
  Ints most = {};
  int64_t i = 0;
  for (; i + kWide <= count; i += kWide) most = larger(most, magnitude<true>(loaded(values + i)));
  Floats rest = {};
  for (int k = 0; i + k < count; ++k) rest[k] = values[i + k];
  return __builtin_reduce_max(larger(most, magnitude<true>(rest)));
}

// The step of a block whose largest magnitude has these bits.
int step_of(const Finish& f, int32_t magnitude) { return Quantizer(f).steps(all(magnitude))[0]; }

// `count` values to mantissas under a step that is known.
void quantize(const Finish& f, int step, const float* values, uint8_t* mantissas, int64_t count) {
  const Quantizer quantizer(f);
  const Floats inverse = Quantizer::inverse(all(step));
  int64_t i = 0;
  for (; i + kWide <= count; i += kWide) stored(mantissas + i, quantizer.mantissas<true>(loaded(values + i), inverse));
  Floats rest = {};
  for (int k = 0; i + k < count; ++k) rest[k] = values[i + k];
  const Bytes last = quantizer.mantissas<true>(rest, inverse);
  for (int k = 0; i + k < count; ++k) mantissas[i + k] = last[k];
}

}  // namespace
