/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* PPG and acceleration: see export/motion_stream.py and `Acceleration` in
 * xmae/signals/front_end.py, step by step. */
#include "xmae/xmae_motion.h"

#include <string.h>

#include "xmae_internal.h"

#define AXES 3u
#define CHANNELS 4u
#define BIAS (1 << 24) /* makes codes positive; a constant does not pass the front end */
#define GAIN (101 * 25 * 16)
#define SHIFT 10
#define FULL 100u
#define BLOCK 25u
#define PER_SECOND (XMAE_CHUNK / BLOCK)
#define BLOCKS 16u
#define RING 32u
#define FOLD (1u << 20) /* s: whole turns of the rings, which are 4 and 8 s */
#define MOVES 50        /* 1/1000 g: below this the wrist rests */
#define AGREE 800       /* 1/100 bpm between beats and belief */
#define MOST_ACTIVE 32767u
#define OTHERWISE (XMAE_UNSURE | XMAE_MIXED) /* reasons of beats, which the belief replaces */

static xmae_motion_t *whole(xmae_t *x) { return (xmae_motion_t *)(void *)x; }

/* Set the axes of a second beside its PPG. */
static void fill(xmae_t *x, int8_t *input) {
  xmae_motion_t *m = whole(x);
  int32_t zero = x->config->model->input_zero;
  uint32_t first = XMAE_CHUNK * m->n_seconds;
  for (uint32_t i = 0; i < XMAE_CHUNK; i++) {
    int8_t *to = input + (size_t)CHANNELS * i, *sample = m->samples + (size_t)CHANNELS * i;
    const int8_t *axes = first + i < m->n_samples ? m->axes[(first + i) % XMAE_MOTION_AHEAD] : NULL;
    sample[0] = (int8_t)(to[0] - zero);
    for (uint32_t axis = 0; axis < AXES; axis++) {
      sample[1 + axis] = axes ? axes[axis] : 0;
      to[1 + axis] = (int8_t)xmae_clamp(sample[1 + axis] + zero, -128, 127);
    }
  }
}

/* Take whole turns of the rings off both counts, which would run over after 497 days. */
static void fold_counts(xmae_motion_t *m) {
  const uint32_t fold = XMAE_CHUNK * FOLD, turn = RING * BLOCK;
  if (m->n_seconds < 2u * FOLD) return;
  m->n_seconds -= FOLD;
  m->n_samples = m->n_samples > fold ? m->n_samples - fold : m->n_samples % turn;
}

/* Move the belief by a second, and say how much the wrist moved. */
static void follow(xmae_t *x, const int8_t *map) {
  xmae_motion_t *m = whole(x);
  const xmae_model_t *model = x->config->model;
  for (uint32_t i = 0; i < XMAE_OUTPUTS * XMAE_MAP_CHANNELS; i++)
    m->map[i] = (int16_t)(map[i] - model->map_zero);
  xmae_tracker_push(&m->tracker, m->samples, CHANNELS, m->map, model->unit);
  m->n_seconds++;
  uint32_t end = PER_SECOND * m->n_seconds, known = m->n_samples / BLOCK;
  uint32_t start = end > BLOCKS ? end - BLOCKS : 0;
  uint32_t largest = 0, one_g = (uint32_t)m->one_g;
  for (uint32_t block = start; block < end && block < known; block++)
    if ((uint32_t)m->peaks[block % RING] > largest) largest = (uint32_t)m->peaks[block % RING];
  uint32_t level = largest / one_g * 1000u + largest % one_g * 1000u / one_g;
  m->activity = (int16_t)(!m->worn              ? XMAE_NO_ACCELEROMETER
                          : level < MOST_ACTIVE ? (int32_t)level
                                                : (int32_t)MOST_ACTIVE);
  fold_counts(m);
}

/* Choose between beats and belief. */
static void decide(xmae_t *x) {
  xmae_motion_t *m = whole(x);
  xmae_result_t *result = &x->result;
  xmae_tracked_t tracked;
  xmae_tracker_read(&m->tracker, &tracked);
  m->followed = tracked.rate, m->belief = tracked.certainty;
  if (result->reasons & (XMAE_FLAT | XMAE_START)) return;
  if (m->activity < MOVES) return;
  result->rhythm = XMAE_RHYTHM_UNKNOWN;
  int32_t apart = result->rate - tracked.rate;
  if (result->rate && apart <= AGREE && apart >= -AGREE) return;
  result->reasons = (uint8_t)(result->reasons & ~OTHERWISE);
  result->rate = result->low = result->high = 0;
  if (tracked.given)
    result->rate = tracked.rate, result->low = tracked.low, result->high = tracked.high;
  else
    result->reasons |= XMAE_UNSURE;
}

static const xmae_companion_t companion = {fill, follow, decide};

static int is_ready(const xmae_motion_t *m) { return m->stream.companion == &companion; }

xmae_status_t xmae_motion_init(xmae_motion_t *m, const xmae_motion_config_t *config, void *memory,
                               uint32_t bytes) {
  if (!m || !config || !config->table) return XMAE_ERROR_NULL;
  const xmae_tracker_table_t *table = config->table;
  if (table->quarters < 1 || table->quarters > 4 || table->lean > 1000) return XMAE_ERROR_MODEL;
  if (config->acc_rate < XMAE_MIN_RATE || config->acc_rate > XMAE_MAX_RATE) return XMAE_ERROR_RATE;
  if (config->one_g < XMAE_MIN_ONE_G || config->one_g > XMAE_MAX_ONE_G) return XMAE_ERROR_BITS;
  xmae_status_t status = xmae_start(&m->stream, &config->ppg, memory, bytes, CHANNELS);
  if (status != XMAE_OK) return status;
  m->stream.companion = &companion;
  m->config = config;
  xmae_tracker_reset(&m->tracker, table);
  for (uint32_t axis = 0; axis < AXES; axis++) xmae_front_end_reset(&m->front_ends[axis]);
  memset(m->peaks, 0, sizeof m->peaks);
  m->one_g = (int32_t)((uint64_t)GAIN * config->one_g >> SHIFT);
  m->factor = (FULL << 24) / ((uint32_t)m->one_g / 10u);
  m->peak = 0, m->n_samples = m->n_seconds = 0;
  m->followed = m->belief = m->worn = 0, m->activity = XMAE_NO_ACCELEROMETER;
  return XMAE_OK;
}

/* A block of acceleration is complete: its largest deviation, and the scale of the next one. */
static void end_block(xmae_motion_t *m) {
  uint32_t blocks = m->n_samples / BLOCK, largest = (uint32_t)m->one_g / 10u;
  m->peaks[(blocks - 1u) % RING] = m->peak;
  m->peak = 0;
  for (uint32_t i = 0; i < BLOCKS && i < blocks; i++) {
    uint32_t peak = (uint32_t)m->peaks[(blocks - 1u - i) % RING];
    if (peak > largest) largest = peak;
  }
  m->factor = (FULL << 24) / largest;
}

static void take_axes(xmae_motion_t *m, const int32_t deviations[AXES]) {
  int8_t *axes = m->axes[m->n_samples % XMAE_MOTION_AHEAD];
  int late = m->n_samples < XMAE_CHUNK * m->n_seconds;
  for (uint32_t axis = 0; axis < AXES; axis++) {
    int32_t deviation = deviations[axis], size = deviation < 0 ? -deviation : deviation;
    int64_t step = ((int64_t)deviation * m->factor + (1 << 23)) >> 24;
    if (!late) axes[axis] = (int8_t)(step < -127 ? -127 : step > 127 ? 127 : step);
    if (size > m->peak) m->peak = size;
  }
  if (++m->n_samples % BLOCK == 0) end_block(m);
}

static void accelerate(xmae_motion_t *m, const int32_t *codes) {
  xmae_samples_t done[AXES];
  for (uint32_t axis = 0; axis < AXES; axis++)
    xmae_front_end_push(&m->front_ends[axis], m->config->acc_rate, (uint32_t)(codes[axis] + BIAS),
                        &done[axis]);
  for (uint32_t i = 0; i < done[0].n; i++) {
    const int32_t deviations[AXES] = {done[0].deviations[i], done[1].deviations[i],
                                      done[2].deviations[i]};
    take_axes(m, deviations);
  }
}

xmae_status_t xmae_motion_accelerate(xmae_motion_t *m, const int32_t *codes, uint32_t n) {
  if (!m || (n && !codes)) return XMAE_ERROR_NULL;
  if (!is_ready(m)) return XMAE_ERROR_STATE;
  if (!n) return XMAE_OK;
  uint32_t used = XMAE_CHUNK * m->n_seconds, ahead = m->n_samples > used ? m->n_samples - used : 0;
  if (n > XMAE_MOTION_AHEAD * (XMAE_MAX_RATE / 100000u)) return XMAE_ERROR_OVERRUN;
  uint32_t more = n * 100000u / m->config->acc_rate + 1u;
  if (ahead + more > XMAE_MOTION_AHEAD) return XMAE_ERROR_OVERRUN;
  for (uint32_t i = 0; i < AXES * n; i++)
    if (codes[i] <= -BIAS || codes[i] >= BIAS) return XMAE_ERROR_CODE;
  for (uint32_t i = 0; i < n; i++) accelerate(m, codes + (size_t)AXES * i);
  m->worn = 1;
  return XMAE_OK;
}

xmae_status_t xmae_motion_push(xmae_motion_t *m, const int32_t *codes, uint32_t n, uint32_t lost) {
  if (!m) return XMAE_ERROR_NULL;
  return is_ready(m) ? xmae_push(&m->stream, codes, n, lost) : XMAE_ERROR_STATE;
}

xmae_status_t xmae_motion_reset(xmae_motion_t *m) {
  if (!m) return XMAE_ERROR_NULL;
  if (!is_ready(m)) return XMAE_ERROR_STATE;
  return xmae_motion_init(m, m->config, m->stream.memory, m->config->ppg.model->memory_bytes);
}

xmae_status_t xmae_motion_read(xmae_motion_t *m, xmae_motion_result_t *result) {
  if (!m || !result) return XMAE_ERROR_NULL;
  if (!is_ready(m)) return XMAE_ERROR_STATE;
  xmae_status_t status = xmae_read(&m->stream, &result->result);
  if (status != XMAE_OK) return status;
  result->activity = m->activity, result->followed = m->followed, result->belief = m->belief;
  return XMAE_OK;
}
