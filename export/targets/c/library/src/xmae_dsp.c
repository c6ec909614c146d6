/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The tier without a network: the timing map from an autocorrelation and two moving averages; see
 * export/targets/c/dsp.py, step by step. */
#include "xmae_internal.h"

#include <string.h>

#define SPAN 250
#define DELAY 15
#define SHORTEST 7
#define LONGEST 50
#define KEPT (SPAN + DELAY + LONGEST) /* samples at 25 Hz */
#define STEEP 45
#define FULL_HEIGHT 256
#define SILENT 4

typedef struct {
  int8_t samples[XMAE_CHUNK]; /* where the second's samples go */
  int8_t x[KEPT], map[XMAE_OUTPUTS * XMAE_MAP_CHANNELS];
  uint8_t lag, length;
} dsp_t;

typedef char xmae_dsp_fits[sizeof(dsp_t) <= XMAE_DSP_BYTES ? 1 : -1];

static int32_t autocorrelation(const int8_t *x, int lag) {
  int32_t sum = 0;
  for (int i = 0; i + lag < SPAN; i++) sum += x[i] * x[i + lag];
  return sum;
}

static uint8_t square_root(int32_t n) {
  int32_t root = 0;
  while ((root + 1) * (root + 1) <= n) root++;
  return (uint8_t)root;
}

/* The shortest lag whose autocorrelation is a peak of at least 7/8 of the highest, and its height;
 * 0 = none. */
static int period(const int8_t *x, int32_t *height) {
  int32_t r[LONGEST + 2 - SHORTEST + 1], highest = 0;
  for (int lag = SHORTEST - 1; lag <= LONGEST + 1; lag++)
    r[lag - SHORTEST + 1] = autocorrelation(x, lag);
  for (int turn = 0; turn < 2; turn++)
    for (int lag = SHORTEST; lag <= LONGEST; lag++) {
      const int32_t *here = &r[lag - SHORTEST + 1];
      if (here[0] <= here[-1] || here[0] < here[1] || here[0] <= 0) continue;
      if (!turn && here[0] > highest) highest = here[0];
      if (!turn || 8 * (here[0] >> 3) < 7 * (highest >> 3)) continue;
      *height = here[0];
      return lag;
    }
  return 0;
}

static void find_period(dsp_t *d) {
  const int8_t *x = d->x + KEPT - SPAN;
  int32_t energy = autocorrelation(x, 0), height = 0;
  int lag = period(x, &height);
  d->length = 0;
  if (energy < SILENT || !lag) return;
  height = height * SPAN / (SPAN - lag) * FULL_HEIGHT / energy;
  d->lag = (uint8_t)lag;
  d->length = square_root(31 * (height < FULL_HEIGHT ? height : FULL_HEIGHT));
}

static int32_t sum_of(const int8_t *x, int n) {
  int32_t sum = 0;
  for (int i = 0; i < n; i++) sum += x[i];
  return sum;
}

/* The sine for the sample DELAY before number k: a narrow moving average less a wide one. */
static int8_t sine(const dsp_t *d, int k) {
  int at = k - DELAY, narrow = d->lag / 8, width = 2 * narrow + 1, wide = d->lag;
  int half = wide / 2 < DELAY ? wide / 2 : DELAY;
  int32_t difference =
      sum_of(d->x + at - narrow, width) * wide - sum_of(d->x + at + half - wide + 1, wide) * width;
  int32_t size = (difference < 0 ? -difference : difference) / (wide * width);
  size = (size * d->length) >> 6;
  if (size > STEEP) size = STEEP;
  return (int8_t)(difference < 0 ? -size : size);
}

static int8_t *dsp_input(const xmae_model_t *model, int8_t *memory) {
  (void)model;
  return ((dsp_t *)(void *)memory)->samples;
}

static void dsp_reset(const xmae_model_t *model, int8_t *memory) {
  dsp_t *d = (dsp_t *)(void *)memory;
  (void)model;
  memset(d, 0, sizeof *d);
  d->lag = LONGEST / 2;
}

static const int8_t *dsp_run(const xmae_model_t *model, int8_t *memory) {
  dsp_t *d = (dsp_t *)(void *)memory;
  memmove(d->x, d->x + XMAE_OUTPUTS, KEPT - XMAE_OUTPUTS);
  for (int k = 0; k < XMAE_OUTPUTS; k++)
    d->x[KEPT - XMAE_OUTPUTS + k] = (int8_t)(sum_of(d->samples + (intptr_t)4 * k, 4) >> 2);
  find_period(d);
  for (int k = 0; k < XMAE_OUTPUTS; k++) {
    int8_t *out = d->map + (intptr_t)XMAE_MAP_CHANNELS * k;
    out[0] = (int8_t)d->length;
    out[1] = sine(d, KEPT - XMAE_OUTPUTS + k);
    out[2] = model->lag_code[d->lag];
  }
  return d->map;
}

const xmae_engine_t xmae_dsp_engine = {dsp_input, dsp_reset, dsp_run};
