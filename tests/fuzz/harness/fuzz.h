/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* What the harnesses share: reading numbers off the input, and a check that ends the program. */
#ifndef XMAE_FUZZ_H
#define XMAE_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
  const uint8_t *at, *end;
} input_t;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define REQUIRE(condition)                                                                         \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                      \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

static inline uint32_t left(const input_t *in) { return (uint32_t)(in->end - in->at); }

static inline uint8_t take8(input_t *in) { return in->at < in->end ? *in->at++ : 0; }

static inline uint16_t take16(input_t *in) {
  uint32_t low = take8(in);
  return (uint16_t)(low | (uint32_t)take8(in) << 8);
}

static inline uint32_t take32(input_t *in) {
  uint32_t low = take16(in);
  return low | (uint32_t)take16(in) << 16;
}

/* A number from `low` to `high`, both included. */
static inline uint32_t take_from(input_t *in, uint32_t low, uint32_t high) {
  return low + take32(in) % (high - low + 1);
}

/* A place of exactly so many bytes, so that a sanitizer sees the first one beyond. */
static inline void *exactly(size_t bytes) {
  void *place = malloc(bytes ? bytes : 1);
  REQUIRE(place);
  return place;
}

#endif
