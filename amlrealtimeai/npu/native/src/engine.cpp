// The C interface: create an engine from a plan, run it, destroy it. Engines share nothing but the list of them.
#include <pthread.h>
#include <string.h>
#include <time.h>

// Placement new, without the C++ library.
inline void* operator new(size_t, void* place) noexcept { return place; }

#include "float_mode.h"
#include "layers.h"
#include "memory.h"
#include "pool.h"

namespace {

const Isa* const* all_isas() {
  static const Isa* const isas[] = {
#if defined(__x86_64__)
      &amx_isa(),
      &avx512vnni_isa(),
      &avxvnni_isa(),
      &avx2_isa(),
#elif defined(__aarch64__)
      &neon_isa(),
#endif
      &generic_isa(),
      nullptr,
  };
  return isas;
}

const Isa* find_isa(const char* name) {
  for (const Isa* const* isa = all_isas(); *isa; ++isa)
    if ((*isa)->available() && (!*name || !strcmp(name, (*isa)->name))) return *isa;
  return nullptr;
}

int64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t(t.tv_sec) * 1000000000 + t.tv_nsec;
}

struct Engine {
  Plan plan;
  const Isa* isa;
  Pool pool;
  char* arena = nullptr;
  float* scratch = nullptr;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  Engine *next = nullptr, *previous = nullptr;  // in the list of all engines

  Engine(const Plan& p, const Isa* i, int threads) : plan(p), isa(i), pool(threads) {
    arena = static_cast<char*>(allocate_lines(plan.arena_bytes));
    scratch = static_cast<float*>(allocate_lines(threads * plan.scratch_floats * sizeof(float) + kSlack));
    // 3.4e38 as floats: a step that reads what was never written is found out at once, here as in the tests
    if (arena) memset(arena, 0x7f, plan.arena_bytes);
    if (scratch) memset(scratch, 0x7f, threads * plan.scratch_floats * sizeof(float));
  }
  ~Engine() {
    free_lines(arena);
    free_lines(scratch);
  }
  bool start() { return arena && scratch && pool.complete() && pool.start(); }
};

// All engines: a child after fork has none of their threads, and locks that somebody held are held for ever.
class Engines {
 public:
  static void add(Engine* engine) {
    pthread_mutex_lock(&mutex_);
#if !defined(_WIN32)
    if (!watching_) watching_ = !pthread_atfork(before_fork, in_parent, in_child);
#endif
    engine->next = first_;
    if (first_) first_->previous = engine;
    first_ = engine;
    pthread_mutex_unlock(&mutex_);
  }

  static void remove(Engine* engine) {
    pthread_mutex_lock(&mutex_);
    (engine->previous ? engine->previous->next : first_) = engine->next;
    if (engine->next) engine->next->previous = engine->previous;
    pthread_mutex_unlock(&mutex_);
  }

 private:
  static void before_fork() { pthread_mutex_lock(&mutex_); }
  static void in_parent() { pthread_mutex_unlock(&mutex_); }
  static void in_child() {
    mutex_ = PTHREAD_MUTEX_INITIALIZER;
    for (Engine* engine = first_; engine; engine = engine->next) {
      engine->mutex = PTHREAD_MUTEX_INITIALIZER;
      engine->pool.forget();
    }
  }

  static inline pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  static inline Engine* first_ = nullptr;
  static inline bool watching_ = false;
};

struct Job {
  const Context* context;
  const Step* step;
};

void run_job(void* job, int item, int worker) {
  const Job& j = *static_cast<Job*>(job);
  run_item(*j.context, *j.step, item, worker);
}

void copy_out(const Context& context, int tensor, int64_t image, float* to) {
  const View v(context, tensor);
  const Tensor& t = *v.tensor;
  const int64_t pixels = int64_t(t.height) * t.width;
  to += image * pixels * t.channels;
  for (int64_t i = 0; i < pixels; ++i)
    memcpy(to + i * t.channels, v.floats + i * t.lanes, t.channels * sizeof(float));
}

}  // namespace

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

EXPORT const Layout npu_layout = {3,          sizeof(Tensor), sizeof(Step),     sizeof(Operation),
                                  sizeof(Plan), kStepKinds,     kOperationKinds, kPanel,
                                  kPixels,    kRunPixels,     kSlack};

// Name of the instruction set number `index` of this library, fastest first; null behind the last.
EXPORT const char* npu_isa_name(int index) {
  const Isa* isa = all_isas()[index];
  return isa ? isa->name : nullptr;
}

EXPORT int npu_isa_available(const char* name) { return find_isa(name) != nullptr; }

// Null when the instruction set is not available or memory or threads are short. The plan's pointers have to outlive it.
EXPORT void* npu_create(const Plan* plan, int threads, const char* isa_name) {
  const Isa* isa = find_isa(isa_name);
  if (!isa) return nullptr;
  Engine* engine = static_cast<Engine*>(allocate_lines(sizeof(Engine)));
  if (!engine) return nullptr;
  new (static_cast<void*>(engine)) Engine(*plan, isa, threads);
  if (engine->start()) {
    Engines::add(engine);
    return engine;
  }
  engine->~Engine();
  free_lines(engine);
  return nullptr;
}

EXPORT const char* npu_engine_isa(void* handle) { return static_cast<Engine*>(handle)->isa->name; }

// input: [batch][height][width][channels]; outputs: one array each; nanoseconds: null, or one sum for each step.
EXPORT void npu_run(void* handle, const float* input, float* const* outputs, int64_t batch, int64_t* nanoseconds) {
  Engine& e = *static_cast<Engine*>(handle);
  const StandardFloats mode;
  pthread_mutex_lock(&e.mutex);
  e.pool.start();
  const Tensor& in = e.plan.tensors[e.plan.input];
  const int64_t image_floats = int64_t(in.height) * in.width * in.channels;
  for (int64_t image = 0; image < batch; ++image) {
    const Context context{&e.plan, e.isa, e.arena, input + image * image_floats, e.scratch, e.pool.workers()};
    for (int i = 0; i < e.plan.step_count; ++i) {
      const int64_t begin = nanoseconds ? now() : 0;
      Job job{&context, &e.plan.steps[i]};
      e.pool.scatter();
      e.pool.run(item_count(context, *job.step), run_job, &job);
      if (nanoseconds) nanoseconds[i] += now() - begin;
    }
    for (int i = 0; i < e.plan.output_count; ++i) copy_out(context, e.plan.outputs[i], image, outputs[i]);
  }
  e.pool.gather();
  pthread_mutex_unlock(&e.mutex);
}

EXPORT void npu_destroy(void* handle) {
  Engine* engine = static_cast<Engine*>(handle);
  Engines::remove(engine);
  engine->~Engine();
  free_lines(engine);
}
