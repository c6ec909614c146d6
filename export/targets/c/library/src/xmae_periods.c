/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* A second opinion on a heart rate: after which time the signal repeats; see xmae/beats/periods.py,
 * step by step. */
#include "xmae_internal.h"

#define SPAN 250
#define SHORTEST 7
#define LONGEST 50
#define MOST (SPAN / 2)
#define FULL 256
#define QUIET 250
#define IRREGULAR 150
#define REGULAR 80
#define LIKE 205
#define LEAST_APART 13
#define MOST_APART 77
#define CLEAR 179
#define OFF_BEAT 20
#define MANY_BEATS 38
#define BEAT_LAG 150000u
#define N_BEATS 4

/* The sum of products of samples `lag` apart; at most 250 x 128 x 128. */
static int32_t autocorrelation(const int8_t *x, int lag) {
  int32_t sum = 0;
  for (int i = 0; i < SPAN - lag; i++) sum += x[i] * x[i + lag];
  return sum;
}

/* How well the signal repeats after `lag` samples, 0 to about 256. */
static int32_t height(const int8_t *x, int lag, int32_t energy) {
  int32_t sum = autocorrelation(x, lag);
  return sum > 0 ? sum * SPAN / (SPAN - lag) * FULL / energy : 0;
}

/* The greatest height within one sample of a lag, between samples by a parabola; -1 beyond the
 * longest. */
static int32_t around(const int8_t *x, int lag, int32_t energy) {
  if (lag + 2 > MOST) return -1;
  int32_t h[5];
  for (int k = 0; k < 5; k++) h[k] = height(x, lag - 2 + k, energy);
  int at = h[2] > h[1] ? 2 : 1;
  if (h[3] > h[at]) at = 3;
  int32_t before = h[at - 1], top = h[at], after = h[at + 1], bend = 2 * top - before - after;
  if (top < before || top < after || bend == 0) return top;
  return top + (after - before) * (after - before) / (8 * bend);
}

/* The greatest height of the search's lags that are no multiple of a beat. */
static int32_t off_beat(const int8_t *x, const int *beats, int32_t energy) {
  int32_t best = 0;
  for (int lag = SHORTEST; lag <= LONGEST; lag++) {
    int near = 0;
    for (int m = 0; m < N_BEATS; m++) {
      int apart = lag > beats[m] ? lag - beats[m] : beats[m] - lag, room = beats[m] / 8;
      if (apart <= (room > 1 ? room : 1)) near = 1;
    }
    if (near) continue;
    int32_t here = height(x, lag, energy);
    if (here > best) best = here;
  }
  return best;
}

static int32_t greater(int32_t a, int32_t b) { return a > b ? a : b; }
static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

int xmae_doubt(const int8_t *x, uint32_t rate, int32_t irregularity) {
  if (!rate || irregularity >= IRREGULAR) return 0;
  int32_t energy = autocorrelation(x, 0), after[N_BEATS];
  if (energy < QUIET) return 0;
  int beats[N_BEATS];
  for (int m = 0; m < N_BEATS; m++) {
    beats[m] = (int)(((uint32_t)(m + 1) * BEAT_LAG + rate / 2u) / rate);
    after[m] = around(x, beats[m], energy);
  }
  int32_t odd = greater(after[0], after[2]), even = smaller(after[1], after[3]),
          few = greater(after[0], after[1]);
  int32_t many = greater(after[2], after[3]), apart = even - odd;
  if (irregularity < REGULAR && after[1] >= LIKE && apart >= LEAST_APART && apart <= MOST_APART)
    return 1;
  if (many >= CLEAR && many - few >= MANY_BEATS) return 1;
  int32_t best = off_beat(x, beats, energy);
  return best >= CLEAR && best - greater(few, many) >= OFF_BEAT;
}
