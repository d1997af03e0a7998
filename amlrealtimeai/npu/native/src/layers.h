// One class per kind of step: how many items it has, and what one item does.
#pragma once
#include "isa.h"

struct Context {
  const Plan* plan;
  const Isa* isa;
  char* arena;
  const float* input;      // the caller's image: the floats of the input tensor
  float* scratch;          // plan->scratch_floats for each worker
  int workers;
};

// The pixels of a tensor in its two forms.
struct View {
  const Tensor* tensor;
  float* floats;           // null when not kept
  uint8_t* mantissas;      // corner of the halo; null when not kept
  int32_t* steps;

  View(const Context& context, int index);
  ptrdiff_t row_pixels() const { return tensor->width + tensor->left + tensor->right; }
  ptrdiff_t pixel(int y, int x) const { return (y + tensor->top) * row_pixels() + x + tensor->left; }
  float* floats_at(int y, int x) const { return floats + (ptrdiff_t(y) * tensor->width + x) * tensor->lanes; }
};

// The values of pixel (y, x) of a step that does not convolve, before its operations (moves.cpp).
void start_pixel(const Context& context, const Step& step, const View& from, int y, int x, float* values, int channels);

// Applies the first `operations` operations to `count` channels of one pixel from `channel` on; the padding lanes keep
// or become +0. work: for operations that need more room.
void operate(const Context& context, const Step& step, int operations, int y, int x, int channel, int count,
             float* values, float* work);

// Items of a step. The last one clears the halo of what the step writes, which nothing reads before the step is over.
int item_count(const Context& context, const Step& step);
void run_item(const Context& context, const Step& step, int item, int worker);
