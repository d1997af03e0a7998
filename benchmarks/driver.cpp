// Runs a plan that emulation.py wrote into a file, on a CPU where Python is not: for bits, not for speed.
//   driver                                       prints the instruction sets that this CPU has
//   driver PLAN ISA THREADS BATCH OUTPUT         runs; writes every output, one behind the other, to OUTPUT
#include <stdio.h>
#include <stdlib.h>

#include "plan.h"

extern "C" {
const char* npu_isa_name(int index);
int npu_isa_available(const char* name);
void* npu_create(const Plan* plan, int threads, const char* isa_name);
const char* npu_engine_isa(void* handle);
void npu_run(void* handle, const float* input, float* const* outputs, int64_t batch, int64_t* nanoseconds);
void npu_destroy(void* handle);
}

namespace {

// Parts of the file, in order, each aligned to 64 bytes.
enum { kPlan, kTensors, kSteps, kOperations, kOutputs, kInput, kConstants, kParts };

char* parts[kParts];

void read_parts(const char* path) {
  FILE* file = fopen(path, "rb");
  int64_t sizes[kParts];
  if (!file || fread(sizes, sizeof sizes, 1, file) != 1) exit(2);
  for (int i = 0; i < kParts; ++i) {
    parts[i] = static_cast<char*>(aligned_alloc(64, sizes[i] + 64 - sizes[i] % 64));
    if (sizes[i] && fread(parts[i], sizes[i], 1, file) != 1) exit(2);
  }
  fclose(file);
}

// In the file a pointer is 0 for none, or 1 + its place among the constants.
template <class T>
void place(const T*& pointer) {
  const size_t place = reinterpret_cast<size_t>(pointer);
  pointer = place ? reinterpret_cast<const T*>(parts[kConstants] + place - 1) : nullptr;
}

Plan& placed_plan() {
  Plan& plan = *reinterpret_cast<Plan*>(parts[kPlan]);
  Step* steps = reinterpret_cast<Step*>(parts[kSteps]);
  Operation* operations = reinterpret_cast<Operation*>(parts[kOperations]);
  for (int i = 0; i < plan.step_count; ++i) {
    place(steps[i].weights);
    place(steps[i].bias);
    place(steps[i].tap_bytes);
    place(steps[i].tap_steps);
    place(steps[i].factors);
    for (const int32_t*& list : steps[i].lists) place(list);
    for (int o = 0; o < steps[i].operations; ++o) place(operations[steps[i].first_operation + o].constant);
  }
  plan.tensors = reinterpret_cast<Tensor*>(parts[kTensors]);
  plan.steps = steps;
  plan.operations = operations;
  plan.outputs = reinterpret_cast<int32_t*>(parts[kOutputs]);
  return plan;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 1) {
    for (int i = 0; npu_isa_name(i); ++i)
      if (npu_isa_available(npu_isa_name(i))) puts(npu_isa_name(i));
    return 0;
  }
  if (count != 6) return 2;
  read_parts(arguments[1]);
  const Plan& plan = placed_plan();
  const int64_t batch = atoi(arguments[4]);
  void* engine = npu_create(&plan, atoi(arguments[3]), arguments[2]);
  if (!engine) return 3;
  puts(npu_engine_isa(engine));
  float** outputs = static_cast<float**>(calloc(plan.output_count, sizeof(float*)));
  size_t* floats = static_cast<size_t*>(calloc(plan.output_count, sizeof(size_t)));
  for (int i = 0; i < plan.output_count; ++i) {
    const Tensor& t = plan.tensors[plan.outputs[i]];
    floats[i] = size_t(batch) * t.height * t.width * t.channels;
    outputs[i] = static_cast<float*>(calloc(floats[i], sizeof(float)));
  }
  npu_run(engine, reinterpret_cast<float*>(parts[kInput]), outputs, batch, nullptr);
  FILE* file = fopen(arguments[5], "wb");
  if (!file) return 2;
  for (int i = 0; i < plan.output_count; ++i) fwrite(outputs[i], sizeof(float), floats[i], file);
  npu_destroy(engine);
  return fclose(file);
}
