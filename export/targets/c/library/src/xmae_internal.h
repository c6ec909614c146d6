/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* What the files of libxmae share: the model's constants, and the stages of an instance. */
#ifndef XMAE_INTERNAL_H
#define XMAE_INTERNAL_H

#include "xmae/xmae.h"
#include "xmae/xmae_tracker.h"
#include "xmae_kernels.h"

#define XMAE_MODEL_MAGIC 0x6d616578u /* "xeam" */
#define XMAE_MODEL_VERSION 3u
#define XMAE_CHUNK 100  /* samples at 100 Hz that are computed at once */
#define XMAE_OUTPUTS 25 /* of the map for these */
#define XMAE_MAP_CHANNELS 3
#define XMAE_SILENCE 5   /* chunks of zeros that set the state before the first sample */
#define XMAE_HISTORY 108 /* samples that an output of the front end needs beside its own */

/* A convolution over a chunk: `conv.in_w` is what its kernel keeps and what is new. Places are
 * bytes in the instance's memory; a layer writes behind the columns that the next one keeps. */
typedef struct {
  xmae_conv_t conv;
  uint32_t input, output;
  uint16_t keep; /* columns */
  uint16_t depthwise;
} xmae_layer_t;

/* A call of a kernel in the network over a window. Places are bytes in the memory for an embedding.
 */
typedef enum {
  XMAE_STEP_CONV,
  XMAE_STEP_DEPTHWISE,
  XMAE_STEP_ADD,
  XMAE_STEP_MEAN,
  XMAE_STEP_AVERAGE_POOL,
  XMAE_STEP_PAD,
  XMAE_STEP_CONCATENATE,
  XMAE_STEP_REQUANTIZE
} xmae_step_kind_t;

typedef struct {
  xmae_step_kind_t kind;
  const void *layer; /* the kernel's struct */
  uint32_t input, second, output, scratch;
} xmae_step_t;

/* A head: (bias + the sum of weight x (code - zero point)) / 2^shift, 1/1000 of its units. */
typedef struct {
  const char *name;
  const int32_t *weights;
  int64_t bias;
  uint32_t shift;
} xmae_head_t;

/* Constants that the checksum covers, in its order. */
typedef struct {
  const void *data;
  uint32_t bytes;
} xmae_blob_t;

/* What makes the timing map of a second: the network, or the tier without one. */
typedef struct {
  int8_t *(*input)(const xmae_model_t *model, int8_t *memory); /* where the second's samples go */
  void (*reset)(const xmae_model_t *model, int8_t *memory);
  /* gives [25][3] codes of the map */
  const int8_t *(*run)(const xmae_model_t *model, int8_t *memory);
} xmae_engine_t;

extern const xmae_engine_t xmae_network_engine, xmae_dsp_engine;

struct xmae_model {
  uint32_t magic;
  uint16_t version, n_layers;
  const xmae_layer_t *layers;
  const uint16_t *interval;   /* ticks by code of the log interval, 511 */
  const uint16_t *half_width; /* of the heart rate's interval by certainty / 16, 1/100 bpm, 16 */
  const xmae_step_t *steps;   /* of the network over a window */
  const xmae_head_t *heads;
  const xmae_blob_t *blobs;
  uint16_t n_steps, n_heads, n_blobs, embedding_size;
  uint32_t memory_bytes, map, scratch, window; /* places in the memory: of the last layer's output,
                                                  of the kernels', of the last 10 s */
  uint32_t embed_bytes, source, embedding;     /* places in the memory for an embedding */
  uint32_t crc32;
  /* 256 steps of the window for 1, where each window is scaled by itself; else 0 */
  uint32_t steps_per_one;
  int16_t input_zero, map_zero, embedding_zero; /* zero points */
  uint16_t unit;                                /* codes of the map for a length of 1 */
  uint16_t look_ahead;         /* samples at 100 Hz after an output's four that it sees */
  uint8_t least;               /* certainty from which a heart rate is given */
  const xmae_engine_t *engine; /* NULL if it reads no beats */
  const int8_t *lag_code; /* of the tier without a network: code of the log interval by lag, 51 */
};

#define XMAE_DSP_BYTES 496u /* memory of the tier without a network */

/* What reads acceleration beside a stream: called with a second's input before the network runs,
 * with the map after it, and when a result is made. */
struct xmae_companion {
  void (*fill)(xmae_t *x, int8_t *input);
  void (*follow)(xmae_t *x, const int8_t *map);
  void (*decide)(xmae_t *x);
};
typedef struct xmae_companion xmae_companion_t;

/* As xmae_init(), for a model of so many input channels. */
xmae_status_t xmae_start(xmae_t *x, const xmae_config_t *config, void *memory, uint32_t bytes,
                         uint32_t inputs);

void xmae_front_end_reset(xmae_front_end_t *f);

/* What a code completes: at most 4 samples, scaled by the last 4 s, and before scaling; `resampled`
 * is their number at 100 Hz before the filters. */
typedef struct {
  uint32_t n, resampled;
  int8_t scaled[4];
  int32_t deviations[4];
} xmae_samples_t;

/* Take a code, already the right way up. */
void xmae_front_end_push(xmae_front_end_t *f, uint32_t rate, uint32_t code,
                         xmae_samples_t *samples);

/* Where the chunk's samples go. */
int8_t *xmae_network_input(const xmae_model_t *model, int8_t *memory);
void xmae_network_reset(const xmae_model_t *model, int8_t *memory);
/* Run the chunk that was put there; gives [25][3] codes of the map. */
const int8_t *xmae_network_run(const xmae_model_t *model, int8_t *memory);

/* Run the network over a window that lies at model->source; gives the embedding's codes. */
const int8_t *xmae_steps_run(const xmae_model_t *model, int8_t *memory);
/* Scale 10 s of deviations, a ring whose oldest is at `newest`, by their range. */
void xmae_scale_window(const xmae_model_t *model, const int32_t *ring, uint32_t newest,
                       int8_t *window);

void xmae_reader_reset(xmae_reader_t *r);
void xmae_reader_push(xmae_reader_t *r, const xmae_model_t *model, const int8_t *map);
/* Fill in what beats tell: certainty, rate, irregularity, rhythm, beats (at most `most`). */
void xmae_reader_result(xmae_reader_t *r, uint32_t most, xmae_result_t *result);

/* Whether 250 samples at 25 Hz speak against a heart rate (1/100 bpm) of beats with this
 * irregularity. */
int xmae_doubt(const int8_t *x, uint32_t rate, int32_t irregularity);

/* What is believed of the heart rate at the end of a second. */
typedef struct {
  uint16_t rate;      /* likeliest, 1/100 bpm */
  uint16_t low, high; /* holds it in nine of ten cases; 0 if it is not given */
  uint8_t certainty;  /* 0 to 255 */
  uint8_t given;      /* 1: sure enough to be shown */
} xmae_tracked_t;

/* The belief over heart rate, the same bits as xmae/beats/tracker.py. The table must live as long
 * as the tracker. */
void xmae_tracker_reset(xmae_tracker_t *t, const xmae_tracker_table_t *table);
/* Take a second: 100 samples of the front ends, interleaved, of PPG and three axes (4 channels) or
 * PPG alone (1); and 25 outputs of three codes of the map less their zero point, or NULL. */
void xmae_tracker_push(xmae_tracker_t *t, const int8_t *samples, uint32_t channels,
                       const int16_t *map, uint32_t unit);
void xmae_tracker_read(const xmae_tracker_t *t, xmae_tracked_t *tracked);

/* n / d where n < 2^48, d < 2^19 and the quotient fits: three of the core's own divisions, no call
 * of the compiler's library. */
static inline uint32_t xmae_divide(uint64_t n, uint32_t d) {
  uint32_t rest = (uint32_t)(n >> 26), quotient = rest / d;
  rest = (rest % d) << 13 | ((uint32_t)(n >> 13) & 0x1fffu);
  quotient = (quotient << 13) + rest / d;
  rest = (rest % d) << 13 | ((uint32_t)n & 0x1fffu);
  return (quotient << 13) + rest / d;
}

/* The shifts of negative numbers in this library are arithmetic, as with every compiler for these
 * cores. */
typedef char xmae_shifts_are_arithmetic[(-5 >> 1) == -3 ? 1 : -1];

#endif
