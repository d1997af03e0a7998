// Element-wise loops, compiled once per instruction set (each file that includes this has its own flags).
#pragma once

namespace {

void maximum(float* best, const float* candidate, int count) {
  for (int i = 0; i < count; ++i) best[i] = candidate[i] > best[i] ? candidate[i] : best[i];
}

void add(float* total, const float* term, int count) {
  for (int i = 0; i < count; ++i) total[i] += term[i];
}

void multiply(float* values, const float* factors, int count) {
  for (int i = 0; i < count; ++i) values[i] *= factors[i];
}

}  // namespace
