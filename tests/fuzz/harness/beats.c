/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The beat reader on any timing map and any tables: sums that do not overflow, beats in order, and
 * what it keeps equal to what it was told. */
#include "fuzz.h"

#include <string.h>

#include "xmae_internal.h"

static uint16_t interval[511], half_width[16];

static struct xmae_model tables(input_t *in) {
  struct xmae_model model = {.magic = XMAE_MODEL_MAGIC, .version = XMAE_MODEL_VERSION};
  uint32_t base = take16(in), step = take8(in);
  for (uint32_t i = 0; i < 511; i++) interval[i] = (uint16_t)(base + i * step);
  model.interval = interval, model.half_width = half_width;
  model.map_zero = (int8_t)take8(in);
  model.unit = take16(in);
  if (!model.unit) model.unit = 1;
  model.least = take8(in);
  return model;
}

/* Outputs of a phasor that turns at any speed, or bytes as they come. */
static void outputs(input_t *in, int8_t map[XMAE_OUTPUTS][XMAE_MAP_CHANNELS]) {
  static const int8_t cosine[8] = {100, 71, 0, -71, -100, -71, 0, 71};
  static uint32_t phase;
  uint32_t kind = take8(in), speed = take8(in);
  for (int i = 0; i < XMAE_OUTPUTS; i++, phase += speed) {
    uint32_t at = phase >> 5;
    map[i][0] = kind & 1 ? (int8_t)take8(in) : cosine[at % 8];
    map[i][1] = kind & 1 ? (int8_t)take8(in) : cosine[(at + 6) % 8];
    map[i][2] = kind & 2 ? (int8_t)take8(in) : (int8_t)speed;
  }
}

static void check(const xmae_reader_t *r, const xmae_result_t *result, uint32_t most) {
  uint32_t sum = 0;
  for (int i = 0; i < 250; i++) sum += r->lengths[i];
  REQUIRE(sum == r->length_sum && result->certainty == sum / 250);
  REQUIRE(result->n_beats <= most && result->n_beats <= XMAE_MAX_BEATS);
  REQUIRE(!result->rate || (result->rate >= 3000 && result->rate <= 22000));
  REQUIRE(result->irregularity >= -1 && result->rhythm <= XMAE_RHYTHM_IRREGULAR);
  REQUIRE(result->time == r->time);
  for (int i = 1; i < XMAE_MAX_BEATS; i++)
    REQUIRE(r->beats[i - 1].time < r->beats[i].time || r->beats[i - 1].time < 0);
  for (int i = 0; i < XMAE_MAX_BEATS; i++) REQUIRE(r->beats[i].time <= r->time);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  input_t in = {data, data + bytes};
  struct xmae_model model = tables(&in);
  xmae_reader_t reader;
  xmae_result_t result;
  int8_t map[XMAE_OUTPUTS][XMAE_MAP_CHANNELS];
  memset(&result, 0, sizeof result);
  xmae_reader_reset(&reader);
  while (left(&in)) {
    outputs(&in, map);
    uint32_t repeats = 1 + take8(&in) % 16, most = 6 * (uint32_t)(1 + take8(&in) % 8);
    for (uint32_t i = 0; i < repeats; i++) xmae_reader_push(&reader, &model, map[0]);
    xmae_reader_result(&reader, most, &result);
    check(&reader, &result, most);
  }
  return 0;
}
