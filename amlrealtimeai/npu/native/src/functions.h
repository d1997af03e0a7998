// What every instruction set has beside its tiles, compiled for it: each file that includes this has its own flags.
#pragma once
#include "finish.h"
#include "vectors.h"

namespace {

void add(float* total, const float* term, int count) {
  for (int i = 0; i < count; ++i) total[i] += term[i];
}

void multiply(float* values, const float* factors, int count) {
  for (int i = 0; i < count; ++i) values[i] *= factors[i];
}

constexpr Isa isa_with(const char* name, bool (*available)(), void (*tile)(const Tile&, int)) {
  return {name, available, tile, finish, largest, step_of, quantize, pool, filter, add, multiply, activate, normalize, nullptr, 0};
}

}  // namespace
