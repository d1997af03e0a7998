// Steps that work pixel by pixel: pools, depthwise filters, picks, blends, other shapes, and what follows them.
#include "layers.h"

namespace {

// Rows (or columns) of a window that lie in an image of `size`, and how many count for an average.
struct Range {
  int first = 0, last, counted;

  Range(int at, int stride, int pad, int kernel, int dilation, int size, int before, int after)
      : last(kernel - 1), counted(kernel) {
    const int begin = at * stride - pad;
    if (begin >= 0 && begin + last * dilation < size) return;
    first = kernel;
    last = -1;
    counted = 0;
    for (int k = 0; k < kernel; ++k) {
      const int position = begin + k * dilation;
      if (position >= 0 && position < size) {
        first = k < first ? k : first;
        last = k;
      }
      counted += position >= -before && position < size + after;
    }
  }
  int taps() const { return last < first ? 0 : last - first + 1; }
};

struct Ranges {
  Range down, right;

  Ranges(const Step& s, const Tensor& in, int y, int x)
      : down(y, s.stride_h, s.pad_top, s.kernel_h, s.dilation_h, in.height, s.counted[0], s.counted[2]),
        right(x, s.stride_w, s.pad_left, s.kernel_w, s.dilation_w, in.width, s.counted[1], s.counted[3]) {}
};

int row_of(const Step& s, int y, int tap) { return y * s.stride_h - s.pad_top + tap * s.dilation_h; }
int column_of(const Step& s, int x, int tap) { return x * s.stride_w - s.pad_left + tap * s.dilation_w; }

Filter window_of(const Step& step, const Ranges& window, const View& from, int y, int x, float* values, int channels) {
  const Tensor& in = *from.tensor;
  const ptrdiff_t outputs = step.factors ? (channels + 15) / 16 * 16 : 0;
  Filter f{};
  f.channels = channels;
  f.values = values;
  f.row = ptrdiff_t(step.dilation_h) * in.width * in.lanes;
  f.column = ptrdiff_t(step.dilation_w) * in.lanes;
  f.weight_column = outputs;
  f.weight_row = outputs * step.kernel_w;
  if (window.down.taps() && window.right.taps()) {
    const int ky = window.down.first, kx = window.right.first;
    f.rows = window.down.taps();
    f.columns = window.right.taps();
    f.from = from.floats_at(row_of(step, y, ky), column_of(step, x, kx));
    f.weights = step.factors ? step.factors + ky * f.weight_row + kx * f.weight_column : f.from;
  }
  return f;
}

void pool(const Context& context, const Step& step, const View& from, int y, int x, float* values, int channels) {
  const bool maximum = step.kind == kMaxPool;
  const Ranges window(step, *from.tensor, y, x);
  context.isa->pool(window_of(step, window, from, y, x, values, channels), maximum);
  if (maximum) return;
  const float reciprocal = 1.0f / float(window.down.counted * window.right.counted);
  for (int c = 0; c < channels; ++c) values[c] *= reciprocal;
}

void filter(const Context& context, const Step& step, const View& from, int y, int x, float* values, int channels) {
  const Tensor& in = *from.tensor;
  const Filter f = window_of(step, Ranges(step, in, y, x), from, y, x, values, channels);
  if (channels == in.channels) return context.isa->filter(f);
  const int multiplier = channels / in.channels;
  for (int c = 0; c < channels; ++c) values[c] = 0.0f;
  for (int ky = 0; ky < f.rows; ++ky)
    for (int kx = 0; kx < f.columns; ++kx)
      for (int c = 0; c < channels; ++c)
        values[c] += f.from[ky * f.row + kx * f.column + c / multiplier] *
                     f.weights[ky * f.weight_row + kx * f.weight_column + c];
}

void pick(const Step& step, const View& from, int y, int x, float* values, int channels) {
  const int row = step.lists[0] ? step.lists[0][y] : y, column = step.lists[1] ? step.lists[1][x] : x;
  const int32_t* wanted = step.lists[2];
  if (row < 0 || column < 0) {
    for (int c = 0; c < channels; ++c) values[c] = step.fill;
    return;
  }
  const float* pixel = from.floats_at(row, column);
  if (!wanted) {
    __builtin_memcpy(values, pixel, channels * sizeof(float));
    return;
  }
  for (int c = 0; c < channels; ++c) values[c] = wanted[c] < 0 ? step.fill : pixel[wanted[c]];
}

void blend(const Step& step, const View& from, int y, int x, float* values, int channels) {
  const int at = step.axis ? x : y, i = step.lists[0][at], j = step.lists[1][at];
  const float weight = step.factors[at], rest = 1.0f - weight;
  const float* first = step.axis ? from.floats_at(y, i) : from.floats_at(i, x);
  const float* second = step.axis ? from.floats_at(y, j) : from.floats_at(j, x);
  for (int c = 0; c < channels; ++c) values[c] = first[c] * rest + second[c] * weight;
}

// The same values in the same order: those of one pixel may lie in several.
void shape(const Step& step, const View& from, const Tensor& out, int y, int x, float* values) {
  const Tensor& in = *from.tensor;
  const int64_t first = (int64_t(y) * out.width + x) * out.channels;
  int64_t pixel = first / in.channels, skipped = first % in.channels;
  (void)step;
  for (int done = 0; done < out.channels; ++pixel, skipped = 0) {
    const int64_t left = out.channels - done, here = in.channels - skipped, count = left < here ? left : here;
    __builtin_memcpy(values + done, from.floats + pixel * in.lanes + skipped, count * sizeof(float));
    done += int(count);
  }
}

// A tensor of one row, column or channel serves for all of them.
struct Operand {
  const float* values;
  bool one;

  Operand(const Context& context, const Operation& o, int y, int x, int channel) {
    const View view(context, o.tensor);
    const Tensor& t = *view.tensor;
    one = t.channels == 1;
    values = view.floats_at(t.height == 1 ? 0 : y, t.width == 1 ? 0 : x) + (one ? 0 : channel);
  }
};

}  // namespace

void start_pixel(const Context& context, const Step& step, const View& from, int y, int x, float* values, int channels) {
  switch (step.kind) {
    case kMaxPool:
    case kAvgPool: return pool(context, step, from, y, x, values, channels);
    case kFilter: return filter(context, step, from, y, x, values, channels);
    case kPick: return pick(step, from, y, x, values, channels);
    case kBlend: return blend(step, from, y, x, values, channels);
    case kShape: return shape(step, from, context.plan->tensors[step.destination], y, x, values);
  }
}

void operate(const Context& context, const Step& step, int operations, int y, int x, int channel, int count,
             float* values, float* work) {
  for (int i = 0; i < operations; ++i) {
    const Operation& o = context.plan->operations[step.first_operation + i];
    const float* constant = o.constant ? o.constant + channel : nullptr;
    switch (o.kind) {
      case kCopy: {
        const View other(context, o.tensor);
        __builtin_memcpy(values + o.channel, other.floats_at(y, x), other.tensor->channels * sizeof(float));
        break;
      }
      case kMultiply: context.isa->multiply(values, constant, count); break;
      case kAdd: context.isa->add(values, constant, count); break;
      case kAddTensor: {
        const Operand other(context, o, y, x, channel);
        if (!other.one) context.isa->add(values, other.values, count);
        for (int c = 0; other.one && c < count; ++c) values[c] += *other.values;
        break;
      }
      case kMultiplyTensor: {
        const Operand other(context, o, y, x, channel);
        if (!other.one) context.isa->multiply(values, other.values, count);
        for (int c = 0; other.one && c < count; ++c) values[c] *= *other.values;
        break;
      }
      case kNormalize: context.isa->normalize(values, o.numbers, work, count); break;
      default: context.isa->activate(o.kind, values, constant, o.numbers, count);
    }
  }
}
