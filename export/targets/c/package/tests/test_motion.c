/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* A model for PPG and acceleration reads a generated person in motion: each number must be the one
 * of Python. Built where the bundle has such a model. */
#include "port.h"
#include "vectors_motion.h"

static xmae_motion_t motion;
static xmae_motion_result_t got;
static uint32_t memory[MOTION_MEMORY / 4 + 1], n_results, n_beats;

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
  static const xmae_motion_config_t config = {
      {&MOTION_MODEL, 1000u * MOTION_HZ, MOTION_BITS, 0, 1, 1, 0},
      &MOTION_TRACKER,
      1000u * MOTION_ACC_HZ,
      MOTION_ONE_G};
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
  const char *wrong = run();
  say(wrong ? wrong : "all numbers are those of Python\n");
  return wrong ? 1 : 0;
}
