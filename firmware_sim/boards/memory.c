/* The three functions of string.h that firmware may use, so that no C library is linked and counts do not depend on one. */
#include <string.h>

#if defined(__clang__)
#define PLAIN_LOOP /* clang: -fno-builtin keeps it from making these loops calls of themselves */
#else
#define PLAIN_LOOP __attribute__((optimize("no-tree-loop-distribute-patterns")))
#endif

PLAIN_LOOP void *memcpy(void *to, const void *from, size_t bytes) {
  unsigned char *t = to;
  const unsigned char *f = from;
  for (; bytes >= 4; bytes -= 4, t += 4, f += 4) { /* these cores load and store unaligned words */
    unsigned value;
    __asm__ volatile("ldr %0, [%1]\n str %0, [%2]" : "=&r"(value) : "r"(f), "r"(t) : "memory");
  }
  while (bytes--) *t++ = *f++;
  return to;
}

PLAIN_LOOP void *memset(void *to, int value, size_t bytes) {
  unsigned char *t = to;
  unsigned word = (unsigned char)value * 0x01010101u;
  for (; bytes >= 4; bytes -= 4, t += 4) __asm__ volatile("str %0, [%1]" : : "r"(word), "r"(t) : "memory");
  while (bytes--) *t++ = (unsigned char)value;
  return to;
}

PLAIN_LOOP int memcmp(const void *a, const void *b, size_t bytes) {
  const unsigned char *x = a, *y = b;
  for (; bytes; bytes--, x++, y++)
    if (*x != *y) return *x - *y;
  return 0;
}
