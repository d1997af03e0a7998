// isa_amx.cpp for CPUs without AMX: its tile instructions in plain C++, as Intel's Software Developer's Manual (volume 2)
// states them, conditions for an invalid-operation exception included. Everything else is compiled as it is.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

namespace amx {

struct Register {
  int rows, bytes;  // as configured; 0: may not be used
  uint8_t at[16][64];
};
inline thread_local Register registers[8];

// A fault of the program where the manual has #UD or #GP.
inline void require(bool condition) {
  if (!condition) abort();
}

inline Register& used(int number) {
  Register& r = registers[number];
  require(r.rows > 0 && r.bytes > 0);
  return r;
}

inline void release() { memset(registers, 0, sizeof registers); }

inline void load_config(const void* memory) {
  const uint8_t* config = static_cast<const uint8_t*>(memory);
  require(config[0] == 1 && config[1] == 0);
  for (int i = 2; i < 16; ++i) require(config[i] == 0);
  release();
  for (int i = 0; i < 16; ++i) {
    uint16_t bytes;
    memcpy(&bytes, config + 16 + 2 * i, 2);
    const int rows = config[48 + i];
    require(i < 8 ? bytes <= 64 && rows <= 16 && !bytes == !rows : !bytes && !rows);
    if (i < 8) registers[i] = {rows, bytes, {}};
  }
}

inline void zero(int to) {
  Register& r = used(to);
  memset(r.at, 0, sizeof r.at);
}

inline void load(int to, const void* from, ptrdiff_t stride) {
  zero(to);
  Register& r = registers[to];
  for (int i = 0; i < r.rows; ++i) memcpy(r.at[i], static_cast<const char*>(from) + i * stride, r.bytes);
}

inline void store(int from, void* to, ptrdiff_t stride) {
  const Register& r = used(from);
  for (int i = 0; i < r.rows; ++i) memcpy(static_cast<char*>(to) + i * stride, r.at[i], r.bytes);
}

// Sums of four products of unsigned (a) and signed (b) bytes, added to 32-bit integers.
inline void multiply(int to, int a, int b) {
  Register &c = used(to), &left = used(a), &right = used(b);
  require(to != a && to != b && a != b);
  require(c.rows == left.rows && c.bytes == right.bytes && left.bytes == 4 * right.rows && c.bytes % 4 == 0);
  for (int m = 0; m < c.rows; ++m)
    for (int n = 0; n < c.bytes / 4; ++n) {
      int32_t sum;
      memcpy(&sum, c.at[m] + 4 * n, 4);
      for (int k = 0; k < left.bytes; ++k) sum += left.at[m][k] * int8_t(right.at[k / 4][4 * n + k % 4]);
      memcpy(c.at[m] + 4 * n, &sum, 4);
    }
}

}  // namespace amx

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbusd
#define _tile_loadconfig amx::load_config
#define _tile_release amx::release
#define _tile_loadd amx::load
#define _tile_stored amx::store
#define _tile_zero amx::zero
#define _tile_dpbusd amx::multiply

#define amx_isa amx_isa_of_hardware
#include "isa_amx.cpp"
#undef amx_isa

const Isa& amx_isa() {
  static const Isa isa = [] {
    Isa made = amx_isa_of_hardware();
    made.available = avx512vnni_isa().available;
    return made;
  }();
  return isa;
}
