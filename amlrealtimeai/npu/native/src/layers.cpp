#include "layers.h"

View::View(const Context& context, int index) : tensor(&context.plan->tensors[index]) {
  floats = !tensor->has_floats      ? nullptr
           : tensor->floats < 0     ? const_cast<float*>(context.input)
                                    : reinterpret_cast<float*>(context.arena + tensor->floats);
  mantissas = tensor->blocks ? reinterpret_cast<uint8_t*>(context.arena + tensor->mantissas) : nullptr;
  steps = tensor->blocks ? reinterpret_cast<int32_t*>(context.arena + tensor->steps) : nullptr;
}

namespace {

// Items aimed at for each step: enough to share among the workers, few enough to keep their cost small.
constexpr int kItems = 24, kItemsEach = 4;

int least(int a, int b) { return a < b ? a : b; }

int rows_per_item(const Context& context, const Tensor& t, int groups) {
  const int each = kItemsEach * context.workers, items = each > kItems ? each : kItems;
  const int wanted = (items + groups - 1) / groups;
  const int rows = t.height / wanted;
  return rows < 1 ? 1 : rows;
}

int row_items(const Context& context, const Tensor& t, int groups) {
  const int rows = rows_per_item(context, t, groups);
  return (t.height + rows - 1) / rows;
}

// Stores `pixels` pixels of row y from x on, `lanes` lanes from `channel` on, which lie in `values`.
Finish finish_for(const Context& context, const View& to, int y, int x, int pixels, int channel, int lanes) {
  const Tensor& t = *to.tensor;
  Finish f{};
  f.pixels = pixels;
  f.lanes = lanes;
  f.length = t.length;
  f.is_signed = t.is_signed;
  f.mantissa_bits = context.plan->mantissa_bits;
  f.lowest_exponent = context.plan->lowest_exponent;
  f.highest_exponent = context.plan->highest_exponent;
  if (to.floats) {
    f.floats = to.floats_at(y, x) + channel;
    f.float_stride = t.lanes;
  }
  if (to.mantissas) {
    f.mantissas = to.mantissas + to.pixel(y, x) * t.lanes + channel;
    f.pixel_bytes = t.lanes;
    f.steps = to.steps + to.pixel(y, x) * t.blocks + channel / t.length;
    f.pixel_steps = t.blocks;
  }
  return f;
}

void clear_pixels(const View& v, ptrdiff_t first, ptrdiff_t count) {
  const Tensor& t = *v.tensor;
  __builtin_memset(v.mantissas + first * t.lanes, t.is_signed ? 128 : 0, count * t.lanes);
  if (!t.whole) __builtin_memset(v.steps + first * t.blocks, 0, count * t.blocks * sizeof(int32_t));
}

void clear_halo(const View& v) {
  const Tensor& t = *v.tensor;
  if (!v.mantissas || t.top + t.left + t.bottom + t.right == 0) return;
  const ptrdiff_t row = v.row_pixels();
  clear_pixels(v, 0, t.top * row + t.left);
  for (int y = 0; y + 1 < t.height; ++y) clear_pixels(v, v.pixel(y, t.width), t.left + t.right);
  clear_pixels(v, v.pixel(t.height - 1, t.width), t.right + t.bottom * row);
}

struct Place {
  int y, x;
};

// All panels of a group for its runs: totals without bias.
void multiply(const Context& context, const Group& group, bool whole_group) {
  if (whole_group) return context.isa->group(group);
  for (int r = 0; r < group.run_count; ++r) {
    Tile tile = group.tile;
    tile.mantissas = group.runs[r].mantissas;
    tile.steps = group.runs[r].steps;
    for (int panel = 0; panel < group.panels; ++panel, tile.weights += group.panel_bytes) {
      tile.totals = group.runs[r].totals + panel * kPanel;
      context.isa->tile(tile, group.runs[r].pixels);
    }
  }
}

void convolve(const Context& context, const Step& step, int item, float* scratch) {
  const View from(context, step.source), to(context, step.destination);
  const Tensor &in = *from.tensor, &out = *to.tensor;
  const int items = row_items(context, out, step.groups), rows = rows_per_item(context, out, step.groups);
  const int group = item / items, first_row = item % items * rows;
  const int channel = group * step.group_channels;
  const int lanes = least(step.group_channels, out.lanes - channel);
  const int channels = least(step.group_channels, out.channels - channel), part_channels = channels / step.parts;
  const int panels = (part_channels + kPanel - 1) / kPanel, filled = step.parts > 1 ? channels : panels * kPanel;
  // the last panel of a part reaches into the next one, which is computed later
  const ptrdiff_t stride = (step.group_channels + kPanel - 1) / kPanel * kPanel + (step.parts > 1 ? kPanel : 0);
  const ptrdiff_t pixel_steps = in.whole ? 0 : in.blocks;

  Tile tile{};
  tile.pixel_bytes = ptrdiff_t(step.stride_w) * in.lanes;
  tile.pixel_steps = step.stride_w * pixel_steps;
  tile.tap_bytes = step.tap_bytes;
  tile.tap_steps = step.tap_steps;
  tile.taps = step.taps;
  tile.blocks = step.blocks;
  tile.length = step.length;
  tile.block_steps = in.whole ? 0 : 1;
  tile.mantissa_bits = context.plan->mantissa_bits;
  tile.is_signed = in.is_signed;
  tile.total_stride = stride;
  const int block_bytes = (in.is_signed ? 2 : 1) * kPanel * 4 + step.length * kPanel;
  const ptrdiff_t panel_bytes = ptrdiff_t(step.taps) * step.blocks * block_bytes;
  const View* residual = nullptr;
  const View other(context, step.residual < 0 ? step.source : step.residual);
  if (step.residual >= 0) residual = &other;

  Group group_work{tile, {}, 0, panels, panel_bytes};
  group_work.tile.weights = step.weights + group * step.group_bytes;
  Place places[2];
  const bool whole_group = context.isa->group && step.length >= context.isa->shortest;
  const int most = whole_group ? kRunPixels : kPixels, pieces = (out.width + most - 1) / most;
  const int size = (out.width + pieces - 1) / pieces, last_row = least(first_row + rows, out.height);
  for (int y = first_row; y < last_row; ++y) {
    for (int x = 0; x < out.width; x += size) {
      const ptrdiff_t corner = ptrdiff_t(y) * step.stride_h * from.row_pixels() + ptrdiff_t(x) * step.stride_w;
      const int pixels = least(size, out.width - x), number = group_work.run_count++;
      places[number] = {y, x};
      group_work.runs[number] = {from.mantissas + corner * in.lanes, from.steps + corner * pixel_steps,
                                 scratch + number * kRunPixels * stride, pixels};
      if (whole_group && number == 0 && !(y + 1 == last_row && x + size >= out.width)) continue;
      for (int part = 0; part < step.parts; ++part) {
        Group work = group_work;
        work.tile.weights += part * panels * panel_bytes;
        for (int r = 0; r < work.run_count; ++r) {
          work.runs[r].mantissas += ptrdiff_t(part) * step.blocks * step.length;
          work.runs[r].steps += ptrdiff_t(part) * step.blocks;
          work.runs[r].totals += ptrdiff_t(part) * part_channels;
        }
        multiply(context, work, whole_group);
      }
      for (int r = 0; r < group_work.run_count; ++r) {
        const Run& run = group_work.runs[r];
        for (int p = 0; filled < lanes && p < run.pixels; ++p)
          __builtin_memset(run.totals + p * stride + filled, 0, (lanes - filled) * sizeof(float));
        for (int p = 0; step.operations && p < run.pixels; ++p)
          operate(context, step, step.operations, places[r].y, places[r].x + p, channel, channels,
                  run.totals + p * stride, nullptr);
        Finish f = finish_for(context, to, places[r].y, places[r].x, run.pixels, channel, lanes);
        f.values = run.totals;
        f.value_stride = stride;
        f.bias = step.bias ? step.bias + channel : nullptr;
        f.relu = step.relu;
        if (residual) {
          f.residual = residual->floats_at(places[r].y, places[r].x) + channel;
          f.residual_stride = residual->tensor->lanes;
        }
        context.isa->finish(f);
      }
      group_work.run_count = 0;
    }
  }
}

// The last operations of a step, as far as a finish can do them: a multiplication, an addition, ReLU.
struct Tail {
  const float *gain = nullptr, *bias = nullptr;
  bool relu = false;
  int operations;  // that are left to do before

  Tail(const Context& context, const Step& step) : operations(step.operations) {
    const Operation* all = context.plan->operations + step.first_operation;
    const auto take = [&](OperationKind kind) {
      return operations && all[operations - 1].kind == kind ? all[--operations].constant : nullptr;
    };
    relu = operations && all[operations - 1].kind == kRelu;
    operations -= relu;
    bias = take(kAdd);
    gain = take(kMultiply);
  }
};

void run_rows(const Context& context, const Step& step, int item, float* scratch) {
  const View from(context, step.source), to(context, step.destination);
  const Tensor& out = *to.tensor;
  const int rows = rows_per_item(context, out, 1);
  const ptrdiff_t stride = (out.lanes + 15) / 16 * 16;
  const Tail tail(context, step);
  __builtin_memset(scratch, 0, kPixels * stride * sizeof(float));
  for (int y = item * rows; y < least((item + 1) * rows, out.height); ++y) {
    for (int x = 0; x < out.width; x += kPixels) {
      const int pixels = least(kPixels, out.width - x);
      for (int p = 0; p < pixels; ++p) {
        float* values = scratch + p * stride;
        start_pixel(context, step, from, y, x + p, values, out.channels);
        operate(context, step, tail.operations, y, x + p, 0, out.channels, values, scratch + kPixels * stride);
      }
      Finish f = finish_for(context, to, y, x, pixels, 0, out.lanes);
      f.values = scratch;
      f.value_stride = stride;
      f.gain = tail.gain;
      f.bias = tail.bias;
      f.relu = tail.relu;
      context.isa->finish(f);
    }
  }
}

// One step for the whole tensor: the largest magnitude first, then every mantissa. The caller's array and a row of
// mantissas have no padding lanes, so a row is worked on as one.
void quantize_whole(const Context& context, const Step& step) {
  const View from(context, step.source), to(context, step.destination);
  const Tensor& t = *to.tensor;
  const bool dense = from.tensor->lanes == t.channels;
  const int pieces = dense ? 1 : t.width, count = dense ? t.width * t.channels : t.channels;
  int32_t largest = 0;
  for (int y = 0; y < t.height; ++y)
    for (int x = 0; x < pieces; ++x) {
      const int32_t found = context.isa->largest(from.floats_at(y, x), count);
      largest = found > largest ? found : largest;
    }
  const Finish f = finish_for(context, to, 0, 0, 0, 0, 0);
  const int shift = context.isa->step_of(f, largest);
  for (int y = 0; y < t.height; ++y)
    for (int x = 0; x < pieces; ++x)
      context.isa->quantize(f, shift, from.floats_at(y, x), to.mantissas + to.pixel(y, x) * t.lanes, count);
  *to.steps = shift * (1 << 23);
}

int work_items(const Context& context, const Step& step) {
  const Tensor& out = context.plan->tensors[step.destination];
  if (step.kind == kQuantizeWhole) return 1;
  return step.kind == kConv ? step.groups * row_items(context, out, step.groups) : row_items(context, out, 1);
}

}  // namespace

int item_count(const Context& context, const Step& step) { return work_items(context, step) + 1; }

void run_item(const Context& context, const Step& step, int item, int worker) {
  float* scratch = context.scratch + worker * context.plan->scratch_floats;
  if (item == work_items(context, step)) return clear_halo(View(context, step.destination));
  switch (step.kind) {
    case kConv: return convolve(context, step, item, scratch);
    case kQuantizeWhole: return quantize_whole(context, step);
    default: return run_rows(context, step, item, scratch);
  }
}
