/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The functions of string.h that firmware may use or compilers call, so that no C library is linked
 * and counts depend on none. */
#include <string.h>

/* Volatile accesses keep the compiler from recognising a loop as the very function that it is in.
 */
void *memcpy(void *to, const void *from, size_t bytes) {
  volatile unsigned char *t = to;
  const unsigned char *f = from;
  for (; bytes >= 4; bytes -= 4, t += 4, f += 4) { /* these cores load and store unaligned words */
    unsigned value;
    __asm__ volatile("ldr %0, [%1]\n str %0, [%2]" : "=&r"(value) : "r"(f), "r"(t) : "memory");
  }
  while (bytes--) *t++ = *f++;
  return to;
}

void *memset(void *to, int value, size_t bytes) {
  volatile unsigned char *t = to;
  unsigned word = (unsigned char)value * 0x01010101u;
  for (; bytes >= 4; bytes -= 4, t += 4)
    __asm__ volatile("str %0, [%1]" : : "r"(word), "r"(t) : "memory");
  while (bytes--) *t++ = (unsigned char)value;
  return to;
}

int memcmp(const void *a, const void *b, size_t bytes) {
  const volatile unsigned char *x = a;
  const unsigned char *y = b;
  for (; bytes; bytes--, x++, y++)
    if (*x != *y) return *x - *y;
  return 0;
}

void *memmove(void *to, const void *from, size_t bytes) {
  volatile unsigned char *t = to;
  const unsigned char *f = from;
  if (t <= f) return memcpy(to, from, bytes);
  while (bytes--) t[bytes] = f[bytes];
  return to;
}

size_t strlen(const char *text) {
  const volatile char *end = text;
  while (*end) end++;
  return (size_t)(end - text);
}

/* The names of the Arm run-time ABI (IHI 0043) for them, which LLVM calls. */
void __aeabi_memcpy8(void *to, const void *from, size_t bytes);
void __aeabi_memcpy8(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
void __aeabi_memcpy4(void *to, const void *from, size_t bytes);
void __aeabi_memcpy4(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
void __aeabi_memcpy(void *to, const void *from, size_t bytes);
void __aeabi_memcpy(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
void __aeabi_memmove8(void *to, const void *from, size_t bytes);
void __aeabi_memmove8(void *to, const void *from, size_t bytes) { memmove(to, from, bytes); }
void __aeabi_memmove4(void *to, const void *from, size_t bytes);
void __aeabi_memmove4(void *to, const void *from, size_t bytes) { memmove(to, from, bytes); }
void __aeabi_memmove(void *to, const void *from, size_t bytes);
void __aeabi_memmove(void *to, const void *from, size_t bytes) { memmove(to, from, bytes); }
void __aeabi_memclr8(void *to, size_t bytes);
void __aeabi_memclr8(void *to, size_t bytes) { memset(to, 0, bytes); }
void __aeabi_memclr4(void *to, size_t bytes);
void __aeabi_memclr4(void *to, size_t bytes) { memset(to, 0, bytes); }
void __aeabi_memclr(void *to, size_t bytes);
void __aeabi_memclr(void *to, size_t bytes) { memset(to, 0, bytes); }
void __aeabi_memset(void *to, size_t bytes, int value);
void __aeabi_memset(void *to, size_t bytes, int value) { memset(to, value, bytes); }
