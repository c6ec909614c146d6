/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* From the timing map to beats, heart rate, certainty and rhythm; see xmae/beats/reader.py and
 * xmae/beats/rhythm.py, step by step. */
#include "xmae_internal.h"

#include <string.h>

#define TICKS 256 /* an output */
#define SPAN 250  /* outputs that certainty looks at */
#define RATE_TICKS                                                                                 \
  ((int64_t)10 * XMAE_TICKS_PER_SECOND) /* beats of so long make the heart rate                    \
                                         */
#define MIN_BPM 3000u                   /* 1/100 bpm */
#define MAX_BPM 22000u
#define DOUBTFUL 64           /* confidence below which intervals are doubtful */
#define LEAST_IRREGULARITY 8u /* changes that it needs */
#define LEAST_CHANGES 12u     /* that the rhythm hint needs */
#define SMALL 80              /* 1/1000 of the interval: a change that is none */
#define REGULAR_SHARE 850u    /* 1/1000 of small changes in a regular rhythm, at least */
#define IRREGULAR_SHARE 400u  /* at most so many in an irregularly irregular one */
#define PATTERNS 3            /* greatest distance of intervals that are compared */
#define LAST (XMAE_MAX_BEATS - 1)

void xmae_reader_reset(xmae_reader_t *r) {
  memset(r, 0, sizeof *r);
  for (int i = 0; i < XMAE_MAX_BEATS; i++) r->beats[i].time = -1;
}

static void add_beat(xmae_reader_t *r, int64_t time, uint8_t confidence) {
  memmove(r->beats, r->beats + 1, LAST * sizeof r->beats[0]);
  r->beats[LAST].time = time;
  r->beats[LAST].confidence = confidence;
  r->n_new++;
}

static void read_output(xmae_reader_t *r, const xmae_model_t *model, int32_t cosine, int32_t sine,
                        int32_t log) {
  uint32_t unit = model->unit, square = (uint32_t)(cosine * cosine + sine * sine);
  uint32_t length = square * 255u / (unit * unit);
  if (length > 255u) length = 255u;
  /* before the first output the sine is 0: no rise */
  if (r->last_sine < 0 && sine >= 0 && r->last_cosine + cosine > 0) {
    int64_t time = r->time - TICKS + -r->last_sine * TICKS / (sine - r->last_sine);
    int64_t newest = r->beats[LAST].time, least = 2 * (int64_t)model->interval[r->last_log + 255];
    uint32_t before = r->last_length;
    if (newest < 0 || 5 * (time - newest) >= least)
      add_beat(r, time, (uint8_t)(length < before ? length : before));
  }
  r->length_sum += length - r->lengths[r->place];
  r->lengths[r->place] = (uint8_t)length;
  r->place = (uint8_t)((r->place + 1u) % SPAN);
  r->last_cosine = (int16_t)cosine, r->last_sine = (int16_t)sine, r->last_log = (int16_t)log,
  r->last_length = (uint8_t)length;
  r->time += TICKS;
}

void xmae_reader_push(xmae_reader_t *r, const xmae_model_t *model, const int8_t *map) {
  for (int i = 0; i < XMAE_OUTPUTS; i++, map += XMAE_MAP_CHANNELS)
    read_output(r, model, map[0] - model->map_zero, map[1] - model->map_zero,
                map[2] - model->map_zero);
}

static uint16_t heart_rate(const xmae_reader_t *r) {
  int first = XMAE_MAX_BEATS;
  while (first > 0 && r->beats[first - 1].time >= 0 &&
         r->beats[first - 1].time >= r->time - RATE_TICKS)
    first--;
  if (XMAE_MAX_BEATS - first < 2) return 0;
  uint32_t span = (uint32_t)(r->beats[LAST].time - r->beats[first].time);
  if (!span) return 0;
  uint32_t rate = 6000u * XMAE_TICKS_PER_SECOND * (uint32_t)(LAST - first) / span;
  return rate >= MIN_BPM && rate <= MAX_BPM ? (uint16_t)rate : 0;
}

/* The interval from beat i to the next one, ticks; 0 where unknown or doubtful. */
static int64_t interval(const xmae_reader_t *r, int i) {
  const xmae_beat_t *from = &r->beats[i], *to = from + 1;
  if (from->time < 0 || from->confidence < DOUBTFUL || to->confidence < DOUBTFUL) return 0;
  return to->time - from->time;
}

/* n / d below 4096, rounded down, without a call of the compiler's library. */
static uint32_t ratio(int64_t n, int64_t d) {
  uint32_t quotient = 0;
  d *= 2048;
  for (uint32_t bit = 2048; bit; bit >>= 1, d >>= 1)
    if (n >= d) n -= d, quotient += bit;
  return quotient;
}

/* Known pairs of intervals `lag` apart, those of them that are alike, the sums of their changes and
 * sizes. */
typedef struct {
  uint32_t n, small;
  int64_t changes, sizes;
} pairs_t;

static pairs_t pairs(const xmae_reader_t *r, int lag) {
  pairs_t p = {0, 0, 0, 0};
  for (int i = 0; i + lag < LAST; i++) {
    int64_t first = interval(r, i), second = interval(r, i + lag);
    if (first <= 0 || second <= 0) continue;
    int64_t change = second > first ? second - first : first - second, size = first + second;
    p.n++, p.changes += change, p.sizes += size;
    if (2000 * change <= SMALL * size) p.small++;
  }
  return p;
}

/* Irregularity and the rhythm hint, from changes of neighbouring intervals and of those up to three
 * apart. */
static void rhythm(const xmae_reader_t *r, xmae_result_t *result) {
  pairs_t next = pairs(r, 1);
  int irregular = 1, regular = 1000u * next.small >= REGULAR_SHARE * next.n;
  for (int lag = 1; lag <= PATTERNS; lag++) {
    pairs_t p = pairs(r, lag);
    if (1000u * p.small > IRREGULAR_SHARE * p.n) irregular = 0;
  }
  result->irregularity =
      (int16_t)(next.n < LEAST_IRREGULARITY ? -1 : (int32_t)ratio(2000 * next.changes, next.sizes));
  result->rhythm = XMAE_RHYTHM_ECTOPIC;
  if (regular)
    result->rhythm = XMAE_RHYTHM_REGULAR;
  else if (irregular)
    result->rhythm = XMAE_RHYTHM_IRREGULAR;
  if (next.n < LEAST_CHANGES) result->rhythm = XMAE_RHYTHM_UNKNOWN;
}

void xmae_reader_result(xmae_reader_t *r, uint32_t most, xmae_result_t *result) {
  result->time = r->time;
  result->certainty = (uint8_t)(r->length_sum / SPAN);
  result->rate = heart_rate(r);
  rhythm(r, result);
  uint32_t n = r->n_new < most ? r->n_new : most;
  if (n > XMAE_MAX_BEATS) n = XMAE_MAX_BEATS;
  r->n_new = 0;
  result->n_beats = (uint8_t)n;
  memset(result->beats, 0, sizeof result->beats);
  for (uint32_t i = 0; i < n; i++) {
    result->beats[i].time = r->beats[XMAE_MAX_BEATS - n + i].time;
    result->beats[i].confidence = r->beats[XMAE_MAX_BEATS - n + i].confidence;
  }
}
