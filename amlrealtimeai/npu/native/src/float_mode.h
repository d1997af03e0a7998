// A thread's rounding and subnormal numbers as IEEE 754 has them, whatever a library has set (flushing to zero, say).
#pragma once
#include <stdint.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

class StandardFloats {
 public:
  StandardFloats() : before_(mode()) { set(kStandard); }
  ~StandardFloats() { set(before_); }
  StandardFloats(const StandardFloats&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr unsigned kStandard = 0x1f80;  // exceptions masked, the rest off
  static uint64_t mode() { return _mm_getcsr(); }
  static void set(uint64_t mode) { _mm_setcsr(unsigned(mode)); }
#elif defined(__aarch64__)
  static constexpr uint64_t kStandard = 0;
  static uint64_t mode() {
    uint64_t found;
    __asm__ volatile("mrs %0, fpcr" : "=r"(found));
    return found;
  }
  static void set(uint64_t mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode)); }
#else  // nobody changes it there
  static constexpr uint64_t kStandard = 0;
  static uint64_t mode() { return 0; }
  static void set(uint64_t) {}
#endif

  uint64_t before_;
};
