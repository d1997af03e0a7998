#include "pool.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "float_mode.h"
#include "memory.h"

namespace {

constexpr int kSpins = 300;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

template <class T>
inline T read(const T& value) {
  T result;
  __atomic_load(&value, &result, __ATOMIC_SEQ_CST);
  return result;
}

#if defined(_WIN32)
struct SignalsBlocked {};
#else
// Threads that start meanwhile leave signals to the program's own threads: one of those may wait for them (sigwait), and
// others would be stopped by what it waits for. Faults of a thread still reach it.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (const int fault : kFaults) sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};
#endif

}  // namespace

Pool::Pool(int workers) : workers_(workers) {
  shares_ = static_cast<Share*>(allocate_lines(workers * sizeof(Share)));
  starts_ = static_cast<Start*>(calloc(workers, sizeof(Start)));
  threads_ = static_cast<pthread_t*>(calloc(workers, sizeof(pthread_t)));
  for (int i = 0; shares_ && i < workers; ++i) shares_[i].word = 0;
}

bool Pool::start() {
  if (!tried_) {
    const SignalsBlocked blocked;
#ifdef __linux__
    if (pthread_getaffinity_np(pthread_self(), sizeof cpus_, &cpus_)) CPU_ZERO(&cpus_);
#endif
    for (int i = 1; i < workers_; ++i) {
      starts_[i] = {this, i, generation_, false};
      if (pthread_create(&threads_[i], nullptr, main, &starts_[i])) break;
      ++started_;
    }
  }
  tried_ = true;
  return started_ == workers_ - 1;
}

void Pool::forget() {
  started_ = sleepers_ = 0;
  tried_ = false;
  // whoever held or waited for them is not in this process
  mutex_ = PTHREAD_MUTEX_INITIALIZER;
  wake_ = PTHREAD_COND_INITIALIZER;
#ifdef __linux__
  caller_cpu_ = -1;
#endif
}

Pool::~Pool() {
  pthread_mutex_lock(&mutex_);
  __atomic_store_n(&stop_, true, __ATOMIC_SEQ_CST);
  pthread_cond_broadcast(&wake_);
  pthread_mutex_unlock(&mutex_);
  for (int i = 1; i <= started_; ++i) pthread_join(threads_[i], nullptr);
  free_lines(shares_);
  free(starts_);
  free(threads_);
}

// Linux in a virtual machine takes a CPU that has just slept for one that the host has taken away, and wakes a thread on
// the caller's CPU instead, where it waits behind the caller: both then share one CPU, and the other one stays idle.
void Pool::scatter() {
#ifdef __linux__
  const int cpu = sched_getcpu();
  if (cpu == caller_cpu_) return;
  caller_cpu_ = cpu;
  cpu_set_t others = cpus_, now;
  CPU_CLR(cpu, &others);
  if (!CPU_COUNT(&others)) return;
  for (int i = 1; i <= started_; ++i) {
    const bool unknown = pthread_getaffinity_np(threads_[i], sizeof now, &now);
    if (!starts_[i].scattered && (unknown || !CPU_EQUAL(&now, &cpus_))) continue;  // somebody has chosen its CPUs
    starts_[i].scattered = !pthread_setaffinity_np(threads_[i], sizeof others, &others);
  }
#endif
}

void Pool::gather() {
#ifdef __linux__
  caller_cpu_ = -1;
  for (int i = 1; i <= started_; ++i) {
    if (starts_[i].scattered) pthread_setaffinity_np(threads_[i], sizeof cpus_, &cpus_);
    starts_[i].scattered = false;
  }
#endif
}

void Pool::run(int items, Work work, void* context) {
  if (items <= 1 || workers_ == 1) {
    for (int i = 0; i < items; ++i) work(context, i, 0);
    return;
  }
  const uint32_t generation = generation_ + 1;
  work_ = work;
  context_ = context;
  __atomic_store_n(&remaining_, items, __ATOMIC_SEQ_CST);
  for (int i = 0; i < workers_; ++i) {
    const uint64_t next = uint64_t(items) * i / workers_, end = uint64_t(items) * (i + 1) / workers_;
    __atomic_store_n(&shares_[i].word, uint64_t(generation) << 32 | end << 16 | next, __ATOMIC_SEQ_CST);
  }
  __atomic_store_n(&generation_, generation, __ATOMIC_SEQ_CST);
  if (read(sleepers_)) {
    pthread_mutex_lock(&mutex_);
    pthread_cond_broadcast(&wake_);
    pthread_mutex_unlock(&mutex_);
  }
  help(generation, 0);
  for (int spins = 0; read(remaining_); ++spins) spins < kSpins ? relax() : void(sched_yield());
}

void Pool::help(uint32_t generation, int worker) {
  for (int i = 0; i < workers_; ++i) {
    Share& share = shares_[(worker + i) % workers_];
    for (int item; claim(share, generation, &item);) {
      work_(context_, item, worker);
      __atomic_sub_fetch(&remaining_, 1, __ATOMIC_SEQ_CST);
    }
  }
}

bool Pool::claim(Share& share, uint32_t generation, int* item) {
  uint64_t word = read(share.word);
  for (;;) {
    const uint32_t next = word & 0xffff, end = word >> 16 & 0xffff;
    if (word >> 32 != generation || next >= end) return false;
    if (__atomic_compare_exchange_n(&share.word, &word, word + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      *item = int(next);
      return true;
    }
  }
}

uint32_t Pool::wait_for_step(uint32_t seen) {
  for (int spins = 0; spins < kSpins; ++spins) {
    const uint32_t generation = read(generation_);
    if (generation != seen || read(stop_)) return generation;
    relax();
  }
  pthread_mutex_lock(&mutex_);
  __atomic_add_fetch(&sleepers_, 1, __ATOMIC_SEQ_CST);
  while (read(generation_) == seen && !read(stop_)) pthread_cond_wait(&wake_, &mutex_);
  __atomic_sub_fetch(&sleepers_, 1, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&mutex_);
  return read(generation_);
}

void* Pool::main(void* start) {
  Pool& pool = *static_cast<Start*>(start)->pool;
  const int worker = static_cast<Start*>(start)->worker;
  const StandardFloats mode;
  for (uint32_t seen = static_cast<Start*>(start)->seen;;) {
    const uint32_t generation = pool.wait_for_step(seen);
    if (read(pool.stop_)) return nullptr;
    pool.help(generation, worker);
    seen = generation;
  }
}
