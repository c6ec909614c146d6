/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* A model for PPG and acceleration reads a generated person in motion: each number must be the one
 * of Python. Before that it must refuse what is wrong. Built where the bundle has such a model. */
#include <string.h>

#include "port.h"
#include "vectors_motion.h"

static const xmae_motion_config_t config = {
    {&MOTION_MODEL, 1000u * MOTION_HZ, MOTION_BITS, 0, 1, 1, 0},
    &MOTION_TRACKER,
    1000u * MOTION_ACC_HZ,
    MOTION_ONE_G};
static xmae_motion_t motion, before;
static xmae_motion_result_t got;
static uint32_t memory[MOTION_MEMORY / 4 + 1], n_results, n_beats;
static const int32_t good[3] = {1, 2, 3}, wide[3] = {1, 2, 1 << 24}, negative[1] = {-1};

/* Whether a call gives a status and changes nothing. */
#define REFUSES(call, status)                                                                      \
  do {                                                                                             \
    before = motion;                                                                               \
    if ((call) != (status) || memcmp(&before, &motion, sizeof motion)) return #call "\n";          \
  } while (0)

static const char *init_refuses(void) {
  xmae_motion_config_t bad = config;
  REFUSES(xmae_motion_init(0, &config, memory, sizeof memory), XMAE_ERROR_NULL);
  REFUSES(xmae_motion_init(&motion, 0, memory, sizeof memory), XMAE_ERROR_NULL);
  REFUSES(xmae_motion_init(&motion, &config, 0, sizeof memory), XMAE_ERROR_NULL);
  REFUSES(xmae_motion_init(&motion, &config, memory, MOTION_MEMORY - 1), XMAE_ERROR_MEMORY);
  bad.table = 0;
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_NULL);
  xmae_tracker_table_t other = *config.table;
  bad = config, bad.table = &other;
  other.quarters = 0; /* as a table of an older version has it */
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_MODEL);
  other.quarters = 5;
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_MODEL);
  other = *config.table, other.lean = 1001;
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_MODEL);
  bad = config, bad.acc_rate = XMAE_MIN_RATE - 1;
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_RATE);
  bad.acc_rate = XMAE_MAX_RATE + 1;
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_RATE);
  bad = config, bad.one_g = XMAE_MIN_ONE_G - 1;
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_BITS);
  bad.one_g = XMAE_MAX_ONE_G + 1;
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_BITS);
  bad = config, bad.ppg.rate = XMAE_MIN_RATE - 1;
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_RATE);
  bad = config, bad.ppg.bits = XMAE_MAX_BITS + 1;
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_BITS);
  bad = config, bad.ppg.hop_s = 0;
  REFUSES(xmae_motion_init(&motion, &bad, memory, sizeof memory), XMAE_ERROR_HOP);
  return 0;
}

/* Also of a model for PPG and acceleration what takes PPG alone. */
static const char *calls_before_init_refuse(void) {
  xmae_t *stream = &motion.stream;
  REFUSES(xmae_motion_accelerate(&motion, good, 1), XMAE_ERROR_STATE);
  REFUSES(xmae_motion_push(&motion, good, 1, 0), XMAE_ERROR_STATE);
  REFUSES(xmae_motion_read(&motion, &got), XMAE_ERROR_STATE);
  REFUSES(xmae_motion_reset(&motion), XMAE_ERROR_STATE);
  REFUSES(xmae_init(stream, &config.ppg, memory, sizeof memory), XMAE_ERROR_MODEL);
  return 0;
}

static const char *calls_refuse(void) {
  if (xmae_motion_init(&motion, &config, memory, sizeof memory) != XMAE_OK) return "no start\n";
  uint32_t room = xmae_room(&motion.stream);
  REFUSES(xmae_motion_accelerate(0, good, 1), XMAE_ERROR_NULL);
  REFUSES(xmae_motion_accelerate(&motion, 0, 1), XMAE_ERROR_NULL);
  REFUSES(xmae_motion_accelerate(&motion, wide, 1), XMAE_ERROR_CODE);
  REFUSES(xmae_motion_accelerate(&motion, 0, 0), XMAE_OK);
  REFUSES(xmae_motion_accelerate(&motion, good, 4u * MOTION_ACC_HZ + 1u), XMAE_ERROR_OVERRUN);
  REFUSES(xmae_motion_accelerate(&motion, good, 0xffffffffu), XMAE_ERROR_OVERRUN);
  REFUSES(xmae_motion_push(0, good, 1, 0), XMAE_ERROR_NULL);
  REFUSES(xmae_motion_push(&motion, 0, 1, 0), XMAE_ERROR_NULL);
  REFUSES(xmae_motion_push(&motion, negative, 1, 0), XMAE_ERROR_CODE);
  REFUSES(xmae_motion_push(&motion, good, 1, room), XMAE_ERROR_OVERRUN);
  REFUSES(xmae_motion_read(&motion, 0), XMAE_ERROR_NULL);
  REFUSES(xmae_motion_read(0, &got), XMAE_ERROR_NULL);
  REFUSES(xmae_motion_read(&motion, &got), XMAE_EMPTY);
  REFUSES(xmae_motion_reset(0), XMAE_ERROR_NULL);
  if (xmae_reset(&motion.stream) != XMAE_OK) return "its stream was not reset\n";
  return calls_before_init_refuse(); /* that ended the instance */
}

static const char *check(void) {
  const xmae_result_t *r = &got.result;
  const int64_t fields[13] = {r->time,         r->rate,      r->low,    r->high,      r->certainty,
                              r->irregularity, r->rhythm,    r->lost,   r->saturated, r->reasons,
                              got.activity,    got.followed, got.belief};
  if (n_results >= MOTION_RESULTS) return "more results than expected\n";
  for (int i = 0; i < 13; i++)
    if (fields[i] != motion_results[n_results][i]) return "a result differs\n";
  for (uint32_t i = 0; i < r->n_beats; i++, n_beats++) {
    if (n_beats >= MOTION_BEATS) return "more beats than expected\n";
    if (r->beats[i].time != motion_beats[n_beats][0] ||
        r->beats[i].confidence != motion_beats[n_beats][1])
      return "a beat differs\n";
  }
  n_results++;
  return 0;
}

static const char *run(void) {
  const uint32_t n = MOTION_HZ / MOTION_BURSTS, n_acc = MOTION_ACC_HZ / MOTION_BURSTS;
  const char *wrong = 0;
  if (xmae_check_model(&MOTION_MODEL) != XMAE_OK) return "the model is damaged\n";
  if (xmae_motion_init(&motion, &config, memory, sizeof memory) != XMAE_OK) return "no start\n";
  for (uint32_t k = 0; n * k < MOTION_CODES && !wrong; k++) {
    if (xmae_motion_accelerate(&motion, motion_axes + 3u * n_acc * k, n_acc) != XMAE_OK)
      return "acceleration was refused\n";
    if (xmae_motion_push(&motion, motion_codes + n * k, n, 0) != XMAE_OK)
      return "codes were refused\n";
    if (xmae_motion_read(&motion, &got) == XMAE_OK) wrong = check();
  }
  if (!wrong && (n_results != MOTION_RESULTS || n_beats != MOTION_BEATS))
    wrong = "fewer numbers than expected\n";
  return wrong;
}

int main(void) {
  const char *wrong = init_refuses();
  if (!wrong) wrong = calls_before_init_refuse();
  if (!wrong) wrong = calls_refuse();
  if (!wrong) wrong = run();
  say(wrong ? wrong : "all numbers are those of Python\n");
  return wrong ? 1 : 0;
}
