// A pool of threads for steps of a few dozen items each.
// Every worker starts with its own share (neighbouring items use the same weights) and then helps the others. Waiting is
// a short spin and then sleep; the caller waits for items, not for workers, so a worker that lost its core delays nothing
// but the item in its hands. Threads are started by the first run that needs them, in each process anew.
#pragma once
#include <pthread.h>
#include <stdint.h>
#ifdef __linux__
#include <sched.h>
#endif

class Pool {
 public:
  using Work = void (*)(void* context, int item, int worker);

  explicit Pool(int workers);
  ~Pool();
  Pool(const Pool&) = delete;

  bool complete() const { return shares_ && starts_ && threads_; }
  int workers() const { return workers_; }
  bool start();                                   // false where a thread is missing; what there is does all the work
  void forget();                                  // in a child after fork, which has none of its parent's threads
  void scatter();                                 // before a run: workers will not wake on the caller's CPU
  void gather();                                  // after the last: workers may run anywhere again
  void run(int items, Work work, void* context);  // returns when every item is done; at most 65535 items

 private:
  // One worker's share in one word, so that a late worker can never take an item of a later step:
  // bits 63..32 generation, 31..16 end, 15..0 next.
  struct alignas(64) Share {
    uint64_t word;
  };
  struct Start {
    Pool* pool;
    int worker;
    uint32_t seen;   // the generation at its start
    bool scattered;
  };

  static void* main(void* start);
  void help(uint32_t generation, int worker);
  bool claim(Share& share, uint32_t generation, int* item);
  uint32_t wait_for_step(uint32_t seen);

  int workers_, started_ = 0;
  bool tried_ = false;  // to start the threads
  Share* shares_;
  Start* starts_;
  pthread_t* threads_;
  alignas(64) uint32_t generation_ = 0;
  bool stop_ = false;
  Work work_ = nullptr;
  void* context_ = nullptr;
  alignas(64) int remaining_ = 0;
  alignas(64) int sleepers_ = 0;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;
#ifdef __linux__
  cpu_set_t cpus_;
  int caller_cpu_ = -1;
#endif
};
