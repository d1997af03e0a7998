// Loops of nothing but dot-product instructions on registers: what a core can do at most. Each returns the number of
// multiply-accumulates it made. Accumulators enough to hide the latency (5 cycles at 2 an instruction: 10).
#include <stdint.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

bool bit(unsigned leaf, unsigned sub, int reg, int number) {
  unsigned r[4];
  return __get_cpuid_count(leaf, sub, &r[0], &r[1], &r[2], &r[3]) && (r[reg] >> number & 1);
}

}  // namespace

EXPORT int has_avx512vnni() { return bit(7, 0, 2, 11) && bit(7, 0, 1, 30); }
EXPORT int has_avxvnni() { return bit(7, 1, 0, 4); }
EXPORT int has_avx2() { return bit(7, 0, 1, 5); }

EXPORT int has_amx() {
#if defined(__linux__)
  return bit(7, 0, 3, 24) && bit(7, 0, 3, 25) && syscall(SYS_arch_prctl, 0x1023, 18) == 0;  // ask for tile data
#else
  return 0;
#endif
}

#define TWELVE(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)

EXPORT __attribute__((target("avx512f,avx512vnni,evex512"))) int64_t run_avx512vnni(int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i) {
#define STEP(n) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #n "\n"
    __asm__ volatile(TWELVE(STEP)::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                     "xmm10", "xmm11");
#undef STEP
  }
  return rounds * 12 * 64;
}

EXPORT __attribute__((target("avx2,avxvnni"))) int64_t run_avxvnni(int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i) {
#define STEP(n) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #n "\n"
    __asm__ volatile(TWELVE(STEP)::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                     "xmm10", "xmm11");
#undef STEP
  }
  return rounds * 12 * 32;
}

// Three instructions make a dot product of 32 pairs: products in pairs to 16 bits, in fours to 32, then the sum.
EXPORT __attribute__((target("avx2"))) int64_t run_avx2(int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i) {
#define STEP(n)                              \
  "vpmaddubsw %%ymm14, %%ymm15, %%ymm12\n"   \
  "vpmaddwd %%ymm12, %%ymm13, %%ymm12\n"     \
  "vpaddd %%ymm12, %%ymm" #n ", %%ymm" #n "\n"
    __asm__ volatile(TWELVE(STEP)::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                     "xmm10", "xmm11", "xmm12");
#undef STEP
  }
  return rounds * 12 * 32;
}

// 16 rows x 64 bytes times 64 bytes x 16 columns.
EXPORT __attribute__((target("amx-tile,amx-int8"))) int64_t run_amx(int64_t rounds) {
  struct alignas(64) {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
  } shape;
  for (int i = 0; i < 8; ++i) shape.bytes[i] = 64, shape.rows[i] = 16;
  __asm__ volatile("ldtilecfg %0" ::"m"(shape));
  for (int64_t i = 0; i < rounds; ++i)
    __asm__ volatile(
        "tdpbusd %tmm7, %tmm6, %tmm0\n tdpbusd %tmm7, %tmm6, %tmm1\n tdpbusd %tmm7, %tmm6, %tmm2\n"
        "tdpbusd %tmm7, %tmm6, %tmm3\n tdpbusd %tmm7, %tmm6, %tmm4\n tdpbusd %tmm7, %tmm6, %tmm5\n");
  __asm__ volatile("tilerelease");
  return rounds * 6 * 16 * 16 * 64;
}
#elif defined(__aarch64__)
EXPORT int has_neon() { return 1; }

EXPORT int64_t run_neon(int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i) {
#define STEP(n) "sdot v" #n ".4s, v30.16b, v31.16b\n"
    __asm__ volatile(".arch armv8.2-a+dotprod\n" STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
                     ::: "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7");
#undef STEP
  }
  return rounds * 8 * 16;
}
#endif
