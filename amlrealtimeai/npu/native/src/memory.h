// Memory that begins on a cache line; C11's aligned_alloc is not everywhere.
#pragma once
#include <stdint.h>
#include <stdlib.h>

constexpr size_t kLine = 64;

inline void* allocate_lines(size_t bytes) {
  char* room = static_cast<char*>(malloc(bytes + kLine + sizeof(void*)));
  if (!room) return nullptr;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(room) + sizeof(void*) + kLine - 1) / kLine * kLine;
  reinterpret_cast<void**>(begin)[-1] = room;
  return reinterpret_cast<void*>(begin);
}

inline void free_lines(void* lines) {
  if (lines) free(static_cast<void**>(lines)[-1]);
}
