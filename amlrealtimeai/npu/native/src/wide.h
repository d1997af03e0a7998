// Sixteen lanes at a time in the compiler's own vectors: each file that includes this compiles them for its instruction
// set, as one register or as several.
#pragma once
#include "isa.h"

namespace {

constexpr int kWide = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint8_t Bytes __attribute__((vector_size(16)));

inline Floats loaded(const float* p) {
  Floats v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void stored(float* p, Floats v) { __builtin_memcpy(p, &v, sizeof v); }
inline void stored(uint8_t* p, Bytes v) { __builtin_memcpy(p, &v, sizeof v); }

// The first `count` lanes, a multiple of 4; the others are 0 (they are read, too: plan.h's kSlack).
inline Floats loaded(const float* p, int count) {
  const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return lane < count ? loaded(p) : Floats{};
}
template <class T, class V>
inline void stored(T* p, V v, int count) {
  T all[kWide];
  __builtin_memcpy(all, &v, sizeof v);
  for (int i = 0; i < count; i += 4) __builtin_memcpy(p + i, all + i, 4 * sizeof(T));
}

inline Floats all(float x) { return x - Floats{}; }
inline Ints all(int32_t x) { return x - Ints{}; }
inline Ints bits(Floats v) { return (Ints)v; }
inline Floats floats(Ints v) { return (Floats)v; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
inline Ints larger(Ints a, Ints b) { return a > b ? a : b; }
inline Ints smaller(Ints a, Ints b) { return a < b ? a : b; }

}  // namespace
