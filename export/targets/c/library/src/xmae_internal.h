/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* What the files of libxmae share: the model's constants, and the stages of an instance. */
#ifndef XMAE_INTERNAL_H
#define XMAE_INTERNAL_H

#include "xmae/xmae.h"
#include "xmae_kernels.h"

#define XMAE_MODEL_MAGIC 0x6d616578u /* "xeam" */
#define XMAE_MODEL_VERSION 1u
#define XMAE_CHUNK 100               /* samples at 100 Hz that are computed at once */
#define XMAE_OUTPUTS 25              /* of the map for these */
#define XMAE_MAP_CHANNELS 3
#define XMAE_SILENCE 4               /* chunks of zeros that set the state before the first sample */
#define XMAE_HISTORY 108             /* samples that an output of the front end needs beside its own */

/* A convolution over a chunk: `conv.in_w` is what its kernel keeps and what is new. Places are bytes in the instance's
 * memory; a layer writes behind the columns that the next one keeps. */
typedef struct {
  xmae_conv_t conv;
  uint32_t input, output;
  uint16_t keep; /* columns */
  uint16_t depthwise;
} xmae_layer_t;

struct xmae_model {
  uint32_t magic;
  uint16_t version, n_layers;
  const xmae_layer_t *layers;
  const uint16_t *interval;    /* ticks by code of the log interval, 511 */
  const uint16_t *half_width;  /* of the heart rate's interval by certainty / 16, 1/100 bpm, 16 */
  uint32_t memory_bytes, map, scratch; /* places in the memory: of the last layer's output, of the kernels' */
  uint32_t crc32;
  int16_t map_zero;            /* zero point of the map */
  uint16_t unit;               /* codes of the map for a length of 1 */
  uint16_t look_ahead;         /* samples at 100 Hz after an output's four that it sees */
  uint8_t least;               /* certainty from which a heart rate is given */
};

void xmae_front_end_reset(xmae_front_end_t *f);

/* Take a code, already the right way up; write the int8 samples that it completes, at most 4, and say how many.
 * `resampled`: samples at 100 Hz that it completed, before the filters. */
uint32_t xmae_front_end_push(xmae_front_end_t *f, uint32_t rate, uint32_t code, int8_t *samples, uint32_t *resampled);

/* Where the chunk's samples go. */
int8_t *xmae_network_input(const xmae_model_t *model, int8_t *memory);
void xmae_network_reset(const xmae_model_t *model, int8_t *memory);
/* Run the chunk that was put there; gives [25][3] codes of the map. */
const int8_t *xmae_network_run(const xmae_model_t *model, int8_t *memory);

void xmae_reader_reset(xmae_reader_t *r);
void xmae_reader_push(xmae_reader_t *r, const xmae_model_t *model, const int8_t *map);
/* Fill in what beats tell: certainty, rate, irregularity, rhythm, beats (at most `most`). */
void xmae_reader_result(xmae_reader_t *r, uint32_t most, xmae_result_t *result);

/* n / d where n < 2^48, d < 2^19 and the quotient fits: three of the core's own divisions, no call of the compiler's
 * library. */
static inline uint32_t xmae_divide(uint64_t n, uint32_t d) {
  uint32_t rest = (uint32_t)(n >> 26), quotient = rest / d;
  rest = (rest % d) << 13 | ((uint32_t)(n >> 13) & 0x1fffu);
  quotient = (quotient << 13) + rest / d;
  rest = (rest % d) << 13 | ((uint32_t)n & 0x1fffu);
  return (quotient << 13) + rest / d;
}

/* The shifts of negative numbers in this library are arithmetic, as with every compiler for these cores. */
typedef char xmae_shifts_are_arithmetic[(-5 >> 1) == -3 ? 1 : -1];

#endif
