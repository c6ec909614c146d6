/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The streaming front end: codes at any rate become int8 samples at 100 Hz; see
 * xmae/signals/front_end.py, step by step. Codes are not negative, so that every division rounds
 * down. */
#include "xmae_internal.h"

#include <string.h>

#define CODE_UNITS 100000u /* a code lasts so long where a sample lasts `rate` */
#define RING 127u
#define TRIANGLE 25 /* sum of the two moving averages' taps 1, 2, 3, 4, 5, 4, 3, 2, 1 */
#define BASELINE 101
#define SHIFT 10
#define BLOCK 25u
#define BLOCKS 16u
#define FULL 100u
#define MIN_RANGE 8

void xmae_front_end_reset(xmae_front_end_t *f) { memset(f, 0, sizeof *f); }

/* A sample's deviation from its moving average, for the sample 54 before the newest. */
static int32_t band(xmae_front_end_t *f, uint32_t sample) {
  uint32_t n = f->newest = (uint8_t)((f->newest + 1u) & RING);
  const uint32_t *x = f->samples;
  f->samples[n] = sample;
  f->base += x[(n - 4u) & RING];
  f->base -= x[(n - 105u) & RING];
  uint64_t smooth = 5u * (uint64_t)x[(n - 54u) & RING];
  for (uint32_t k = 1; k < 5; k++)
    smooth += (uint64_t)(5u - k) * (x[(n - 54u - k) & RING] + x[(n - 54u + k) & RING]);
  int64_t deviation = BASELINE * (int64_t)smooth - TRIANGLE * (int64_t)f->base;
  return (int32_t)(deviation >> SHIFT);
}

static int8_t scale(xmae_front_end_t *f, int32_t deviation) {
  int64_t step = ((int64_t)deviation * (int32_t)f->factor + (1 << 23)) >> 24;
  int32_t size = deviation < 0 ? -deviation : deviation;
  if (size > f->peak) f->peak = size;
  if (++f->n_block == BLOCK) {
    f->peaks[f->block] = f->peak;
    f->block = (uint8_t)((f->block + 1u) % BLOCKS);
    f->n_block = 0, f->peak = 0;
    int32_t largest = 0;
    for (uint32_t i = 0; i < BLOCKS; i++)
      if (f->peaks[i] > largest) largest = f->peaks[i];
    f->factor = largest >= MIN_RANGE ? (FULL << 24) / (uint32_t)largest : 0;
  }
  return (int8_t)(step < -127 ? -127 : step > 127 ? 127 : step);
}

void xmae_front_end_push(xmae_front_end_t *f, uint32_t rate, uint32_t code,
                         xmae_samples_t *samples) {
  uint32_t left = CODE_UNITS;
  samples->n = samples->resampled = 0;
  while (left) {
    uint32_t room = rate - f->filled, take = left < room ? left : room;
    f->integral += (uint64_t)code * take;
    f->filled += take, left -= take;
    if (f->filled < rate) break;
    int32_t deviation = band(f, xmae_divide(f->integral << 4, rate));
    f->integral = 0, f->filled = 0;
    samples->resampled++;
    if (f->seen < XMAE_HISTORY) {
      f->seen++;
    } else {
      samples->scaled[samples->n] = scale(f, deviation);
      samples->deviations[samples->n++] = deviation;
    }
  }
}
