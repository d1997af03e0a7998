// The vector units' functions, compiled once for each instruction set: 16 floats at a time (wide.h).
// Every operation is that of npu/vector_math.py (where the sequences are explained) and rounds once; no fused
// multiply-add (-ffp-contract=off), no mathematical library.
#pragma once
#include "wide.h"

namespace {

inline Floats power(Floats n) { return floats((__builtin_convertvector(n, Ints) + 127) << 23); }
// v * 2^n. Near: n is at least -100, so the second of the two factors would be 1.
template <bool Near>
inline Floats scaled(Floats v, Floats n) {
  if (Near) return v * power(n);
  const Floats first = larger(n, all(-100.0f));
  return (v * power(first)) * power(n - first);
}

// exp(m) = 2^n * (y + low), and the denominator 1 + exp(m) = s * (1 + k), for m = -min(|x|, 110).
template <bool Near>
struct Exponential {
  Floats m, n, y, low, s, k;

  explicit Exponential(Floats x) {
    const Floats size = floats(bits(x) & 0x7fffffff);
    m = Near ? -size : -(size < 110.0f ? size : all(110.0f));
    n = (m * 1.44269504f + 12582912.0f) - 12582912.0f;
    const Floats r = (m - n * 0.693359375f) - n * -2.12194440e-4f;
    Floats p = all(0x1.a1531ep-13f);
    p = p * r + 0x1.6d44bcp-10f;
    p = p * r + 0x1.1110c6p-7f;
    p = p * r + 0x1.5554e8p-5f;
    p = p * r + 0x1.555556p-3f;
    p = p * r + 0x1p-1f;
    const Floats q = (r * r) * p + r;
    y = q + 1.0f;
    low = (1.0f - y) + q;
    const Floats t = scaled<Near>(y, n);
    s = t + 1.0f;
    k = ((t - (s - 1.0f)) + scaled<Near>(low, n)) * (1.457f - 0.5f * s);
  }
};

template <bool Near>
inline Floats sigmoid(Floats x) {
  const Exponential<Near> e(x);
  return (x < 0.0f ? scaled<Near>(e.y + (e.low - e.y * e.k), e.n) : 1.0f - e.k) / e.s;
}

template <bool Near>
inline Floats silu(Floats x) {
  const Exponential<Near> e(x);
  const Floats m_high = floats(bits(e.m) & int32_t(0xfffff000)), y_high = floats(bits(e.y) & int32_t(0xfffff000));
  const Floats a = m_high * y_high;
  const Floats b = (e.m - m_high) * y_high + e.m * ((e.y - y_high) + e.low);
  const Floats inside = Near ? x : floats(bits(x) & 0x7fffffff) > 110.0f ? Floats{} : x;
  const Floats found = (x < 0.0f ? scaled<Near>(a + (b - a * e.k), e.n) : inside - inside * e.k) / e.s;
  return Near ? found : x > 110.0f ? x : found;
}

inline Floats clipped(Floats x, float low, float high) {
  const Floats raised = x > low ? x : all(low);
  return raised < high ? raised : all(high);
}

inline Floats activated(int kind, Floats x, const float* constant, const float* numbers) {
  switch (kind) {
    case kPrelu: return x < 0.0f ? x * loaded(constant) : x;
    case kClip: return clipped(x, numbers[0], numbers[1]);
    case kThreshold: return x > numbers[0] ? x : Floats{};
    case kSigmoid: return sigmoid<false>(x);
    case kSilu: return silu<false>(x);
    case kHardSigmoid: return clipped(x * numbers[0] + numbers[1], 0.0f, 1.0f);
    case kHardSwish: return x * clipped(x * numbers[0] + numbers[1], 0.0f, 1.0f);
    default: return x > 0.0f ? x : Floats{};
  }
}

// The same for exponentials whose arguments are near 0, as nearly all are.
inline Floats activated_near(int kind, Floats x) { return kind == kSigmoid ? sigmoid<true>(x) : silu<true>(x); }

// In place; the padding behind the last value, up to a multiple of 16, becomes +0.
void activate(int kind, float* values, const float* constant, const float* numbers, int count) {
  for (int c = count; c % kWide; ++c) values[c] = 0.0f;
  bool near = kind == kSigmoid || kind == kSilu;
  if (near) {
    Floats most = {};
    for (int c = 0; c < count; c += kWide) most = larger(floats(bits(loaded(values + c)) & 0x7fffffff), most);
    near = __builtin_reduce_max(bits(most)) < __builtin_bit_cast(int32_t, 69.0f);
  }
  if (near)
    for (int c = 0; c < count; c += kWide) stored(values + c, activated_near(kind, loaded(values + c)));
  else
    for (int c = 0; c < count; c += kWide)
      stored(values + c, activated(kind, loaded(values + c), constant ? constant + c : nullptr, numbers));
  for (int c = count; c % kWide; ++c) values[c] = 0.0f;
}

// Local response normalisation: numbers are size, alpha / size, 4 * beta, bias; work: count + size + 16 floats.
void normalize(float* values, const float* numbers, float* work, int count) {
  const int size = int(numbers[0]), before = (size - 1) / 2;
  for (int c = 0; c < count + size + kWide; ++c) work[c] = 0.0f;
  for (int c = 0; c < count; ++c) work[before + c] = values[c] * values[c];
  for (int c = 0; c < count; c += kWide) {
    Floats total{};
    for (int i = 0; i < size; ++i) total += loaded(work + c + i);
    const Floats z = total * numbers[1] + numbers[3], root = __builtin_elementwise_sqrt(z);
    const Floats divisor = numbers[2] == 4.0f   ? z
                           : numbers[2] == 2.0f ? root
                                                : root * __builtin_elementwise_sqrt(root);
    stored(values + c, loaded(values + c) / divisor);
  }
  for (int c = count; c % kWide; ++c) values[c] = 0.0f;
}

// What a window does with the values that it meets, 16 channels of one position at a time.
struct Products {
  static Floats start() { return Floats{}; }
  static Floats step(Floats total, Floats value, const float* weights) { return total + value * loaded(weights); }
};
struct Sum {
  static Floats start() { return Floats{}; }
  static Floats step(Floats total, Floats value, const float*) { return total + value; }
};
struct Maximum {
  static Floats start() { return all(-__builtin_inff()); }
  static Floats step(Floats best, Floats value, const float*) { return larger(value, best); }
};

template <class How, int N>
inline void window_part(const Filter& f, int channel) {
  Floats found[N];
  for (auto& one : found) one = How::start();
  for (int y = 0; y < f.rows; ++y)
    for (int x = 0; x < f.columns; ++x) {
      const float* from = f.from + y * f.row + x * f.column + channel;
      const float* weights = f.weights + y * f.weight_row + x * f.weight_column + channel;
      for (int i = 0; i < N; ++i) found[i] = How::step(found[i], loaded(from + i * kWide), weights + i * kWide);
    }
  for (int i = 0; i < N; ++i) stored(f.values + channel + i * kWide, found[i]);
}

template <class How>
void window(const Filter& f) {
  int c = 0;
  for (; c + 4 * kWide <= f.channels; c += 4 * kWide) window_part<How, 4>(f, c);
  for (; c < f.channels; c += kWide) window_part<How, 1>(f, c);
  for (c = f.channels; c % kWide; ++c) f.values[c] = 0.0f;
}

void filter(const Filter& f) { window<Products>(f); }
void pool(const Filter& f, bool maximum) { maximum ? window<Maximum>(f) : window<Sum>(f); }

}  // namespace
