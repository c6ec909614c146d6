/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The calls for PPG and acceleration in any order with any arguments, on a small model. Held: the
 * status that the header promises, an instance that no error changes, results within their ranges,
 * acceleration that is at most so far ahead, and that neither cutting calls differently nor the
 * months that an instance ran changes anything. */
#include "xmae/xmae_motion.h"

#include <string.h>

#include "fuzz.h"
#include "small_model.h"

#define MOST_CODES 6000u /* an input, of PPG */
#define MOST 2100u       /* codes at once */
#define MOST_TIMES 2100u
#define FOLD (1u << 20) /* s: at twice this the counts of time are folded */

static const int8_t four_weights[2 * 16 * 2] = {
    1, -2, 2,  1, -1, 1, 2, -1, 1, -1, 1,        2,         -2,      1,
    1, 1,  -1, 2, 1,  1, 2, -1, 1, 1,  [40] = 1, [50] = -1, [61] = 2};
static xmae_layer_t four_layers[3];
static struct xmae_model four_model;
static xmae_tracker_table_t table;

static xmae_motion_t instance, second, before;
static int8_t *memory, *second_memory, *memory_before;
static xmae_motion_config_t config;
static uint32_t taken;
static int32_t codes[MOST], axes[3 * MOST_TIMES];

/* The small model with four channels of input, and a table in which the map and the PPG count. */
static void make_model(void) {
  memcpy(four_layers, small_layers, sizeof four_layers);
  four_layers[0].conv.weights = four_weights, four_layers[0].conv.in_c = 4;
  four_layers[0].output = 408 + 16;
  four_layers[1].input = 408, four_layers[1].output = 624 + 8;
  four_layers[2].input = 624, four_layers[2].output = 832;
  four_model = small_model;
  four_model.layers = four_layers, four_model.map = 832, four_model.scratch = 912;
  four_model.window = four_model.memory_bytes = 912 + 512;
  four_model.n_steps = four_model.n_heads = 0;
  for (uint32_t i = 0; i < XMAE_TRACKER_LEVELS; i++)
    for (uint32_t k = 0; k < XMAE_TRACKER_LEVELS; k++)
      table.evidence[i][k] = (uint16_t)(1000 + 2000 * i + 1900 * k);
  for (uint32_t i = 0; i <= XMAE_TRACKER_REACH; i++) table.transition[i] = (uint16_t)(1200u >> i);
  for (uint32_t i = 0; i < 16; i++) table.half_width[i] = (uint16_t)(3200 - 200 * i);
  table.least = 60, table.quarters = 3, table.lean = 150;
}

static void remember(void) {
  before = instance;
  memcpy(memory_before, memory, four_model.memory_bytes);
}

static int same(void) {
  return !memcmp(&before, &instance, sizeof instance) &&
         !memcmp(memory_before, memory, four_model.memory_bytes);
}

static xmae_status_t expected_of_init(uint32_t bytes) {
  const xmae_config_t *ppg = &config.ppg;
  if (!config.table) return XMAE_ERROR_NULL;
  if (config.acc_rate < XMAE_MIN_RATE || config.acc_rate > XMAE_MAX_RATE) return XMAE_ERROR_RATE;
  if (config.one_g < XMAE_MIN_ONE_G || config.one_g > XMAE_MAX_ONE_G) return XMAE_ERROR_BITS;
  if (ppg->model != &four_model) return XMAE_ERROR_MODEL;
  if (ppg->rate < XMAE_MIN_RATE || ppg->rate > XMAE_MAX_RATE) return XMAE_ERROR_RATE;
  if (ppg->bits < XMAE_MIN_BITS || ppg->bits > XMAE_MAX_BITS) return XMAE_ERROR_BITS;
  if (ppg->hop_s < 1 || ppg->hop_s > XMAE_MAX_HOP_S) return XMAE_ERROR_HOP;
  return bytes < four_model.memory_bytes ? XMAE_ERROR_MEMORY : XMAE_OK;
}

/* An instance with any configuration; whether it stands. */
static int set_up(input_t *in) {
  uint32_t odd = take8(in), bytes = odd & 32 ? take32(in) : four_model.memory_bytes;
  memset(&config, 0, sizeof config);
  config.ppg.model = odd & 1 ? &small_model : &four_model; /* that one takes PPG alone */
  config.ppg.rate = odd & 2 ? take32(in) : take_from(in, XMAE_MIN_RATE, XMAE_MAX_RATE);
  config.ppg.bits = odd & 4 ? take8(in) : 16;
  config.ppg.hop_s = (uint16_t)(odd & 4 ? take8(in) : 1);
  config.acc_rate = odd & 8 ? take32(in) : take_from(in, XMAE_MIN_RATE, XMAE_MAX_RATE);
  config.one_g = odd & 16 ? take32(in) : take_from(in, XMAE_MIN_ONE_G, XMAE_MAX_ONE_G);
  config.table = odd & 64 ? NULL : &table;
  memset(&instance, 0xA5, sizeof instance);
  memset(memory, 0x5A, four_model.memory_bytes);
  remember();
  xmae_status_t status = xmae_motion_init(&instance, &config, memory, bytes);
  REQUIRE(status == expected_of_init(bytes));
  if (status == XMAE_OK && odd & 128)
    instance.n_seconds = 2 * FOLD - 8, instance.n_samples = XMAE_CHUNK * (2 * FOLD - 8);
  if (status == XMAE_OK) return 1;
  REQUIRE(same() && xmae_motion_reset(&instance) == XMAE_ERROR_STATE);
  return 0;
}

/* Numbers of one kind: still, a ramp, a square wave, noise. */
static void fill_in(input_t *in, int32_t *to, uint32_t n, uint32_t stride, uint32_t mask,
                    int32_t least) {
  uint32_t kind = take8(in), value = take32(in), step = take16(in);
  for (uint32_t i = 0; i < n; i++) {
    if ((kind & 3) == 1) value += step;
    if ((kind & 3) == 2) value = i % (step % 200 + 2) < step % 200 / 4 + 1 ? 0 : mask;
    if ((kind & 3) == 3) value = value * 1103515245u + 12345u;
    to[(size_t)i * stride] = least + (int32_t)(((kind & 3) == 3 ? value >> 8 : value) & mask);
  }
}

static uint32_t ahead_of(const xmae_motion_t *m) {
  uint32_t used = XMAE_CHUNK * m->n_seconds;
  return m->n_samples > used ? m->n_samples - used : 0;
}

static void accelerate(input_t *in) {
  uint32_t n = take16(in) % (MOST_TIMES + 1), wide = take8(in), bad = 0;
  for (uint32_t axis = 0; axis < 3; axis++)
    fill_in(in, axes + axis, n, 3, (wide & 128 ? 1u << 26 : 1u << wide % 20) - 1u,
            -(1 << (wide & 128 ? 25 : wide % 20)) / 2);
  for (uint32_t i = 0; i < 3 * n; i++) bad |= axes[i] <= -(1 << 24) || axes[i] >= 1 << 24;
  remember();
  uint32_t ahead = ahead_of(&instance);
  uint64_t most = ahead + ((uint64_t)n * 100000u + config.acc_rate - 1u) / config.acc_rate + 1u;
  xmae_status_t status = xmae_motion_accelerate(&instance, axes, n);
  if (status != XMAE_OK) {
    REQUIRE(same());
    REQUIRE(status == XMAE_ERROR_OVERRUN ? most > XMAE_MOTION_AHEAD
                                         : status == XMAE_ERROR_CODE && bad);
    return;
  }
  REQUIRE(!bad && ahead_of(&instance) <= XMAE_MOTION_AHEAD && instance.n_seconds < 2 * FOLD);
  uint32_t cut = n && most + 2u <= XMAE_MOTION_AHEAD ? take16(in) % (n + 1) : n;
  REQUIRE(xmae_motion_accelerate(&second, axes, cut) == XMAE_OK);
  REQUIRE(xmae_motion_accelerate(&second, axes + 3 * cut, n - cut) == XMAE_OK);
}

static void push(input_t *in) {
  uint32_t n = take16(in) % (MOST + 1), lost = take8(in), room = xmae_room(&instance.stream);
  uint32_t mask = ((uint32_t)1 << config.ppg.bits) - 1u, bad = 0;
  if (lost > 250) lost = take32(in);
  if (lost > 250 && lost <= room) lost = 250;
  fill_in(in, codes, n, 1, take8(in) & 128 ? 0xFFFFFFFFu : mask, 0);
  if (taken + n + (uint64_t)lost > MOST_CODES && n + (uint64_t)lost <= room) return;
  for (uint32_t i = 0; i < n; i++) bad |= codes[i] < 0 || (uint32_t)codes[i] >> config.ppg.bits;
  remember();
  xmae_status_t status = xmae_motion_push(&instance, codes, n, lost);
  REQUIRE(status == ((uint64_t)n + lost > room ? XMAE_ERROR_OVERRUN
                     : bad                     ? XMAE_ERROR_CODE
                                               : XMAE_OK));
  if (status != XMAE_OK) {
    REQUIRE(same());
    return;
  }
  taken += n + lost;
  uint32_t cut = n ? take16(in) % (n + 1) : 0;
  if (n && !cut) cut = 1; /* the first code known stands for those lost before it */
  REQUIRE(xmae_motion_push(&second, codes, cut, lost) == XMAE_OK);
  REQUIRE(xmae_motion_push(&second, codes + cut, n - cut, 0) == XMAE_OK);
}

static void read_both(void) {
  xmae_motion_result_t got, other;
  memset(&got, 0, sizeof got), memset(&other, 0, sizeof other);
  int ready = xmae_ready(&instance.stream);
  xmae_status_t status = xmae_motion_read(&instance, &got);
  REQUIRE(status == (ready ? XMAE_OK : XMAE_EMPTY));
  REQUIRE(xmae_motion_read(&second, &other) == status && !memcmp(&got, &other, sizeof got));
  if (!ready) return;
  const xmae_result_t *r = &got.result;
  REQUIRE(r->rate == 0 || (r->rate >= 3000 && r->rate <= 22000));
  REQUIRE(r->rate ? r->low <= r->rate && r->rate <= r->high : !r->low && !r->high);
  REQUIRE(got.activity >= XMAE_NO_ACCELEROMETER);
  REQUIRE(got.followed >= 3000 && got.followed <= 22000);
  if (!r->rate) REQUIRE(r->reasons & (XMAE_FLAT | XMAE_START | XMAE_UNSURE | XMAE_MIXED));
}

static void nulls(void) {
  xmae_motion_result_t got;
  remember();
  REQUIRE(xmae_motion_init(NULL, &config, memory, four_model.memory_bytes) == XMAE_ERROR_NULL);
  REQUIRE(xmae_motion_init(&instance, NULL, memory, four_model.memory_bytes) == XMAE_ERROR_NULL);
  REQUIRE(xmae_motion_init(&instance, &config, NULL, four_model.memory_bytes) == XMAE_ERROR_NULL);
  REQUIRE(xmae_motion_accelerate(&instance, NULL, 1) == XMAE_ERROR_NULL);
  REQUIRE(xmae_motion_accelerate(NULL, axes, 1) == XMAE_ERROR_NULL);
  REQUIRE(xmae_motion_push(&instance, NULL, 1, 0) == XMAE_ERROR_NULL);
  REQUIRE(xmae_motion_push(NULL, codes, 1, 0) == XMAE_ERROR_NULL);
  REQUIRE(xmae_motion_read(&instance, NULL) == XMAE_ERROR_NULL);
  REQUIRE(xmae_motion_read(NULL, &got) == XMAE_ERROR_NULL);
  REQUIRE(xmae_motion_reset(NULL) == XMAE_ERROR_NULL && same());
}

/* After a reset of its stream an instance has ended, until it is set up again. */
static void end_and_begin(void) {
  xmae_motion_result_t got;
  REQUIRE(xmae_reset(&instance.stream) == XMAE_OK);
  remember();
  REQUIRE(xmae_motion_accelerate(&instance, axes, 1) == XMAE_ERROR_STATE);
  REQUIRE(xmae_motion_push(&instance, codes, 1, 0) == XMAE_ERROR_STATE);
  REQUIRE(xmae_motion_read(&instance, &got) == XMAE_ERROR_STATE);
  REQUIRE(xmae_motion_reset(&instance) == XMAE_ERROR_STATE && same());
  REQUIRE(xmae_motion_init(&instance, &config, memory, four_model.memory_bytes) == XMAE_OK);
  REQUIRE(xmae_motion_reset(&second) == XMAE_OK);
}

static void run(input_t *in) {
  memset(second_memory, 0x5A, four_model.memory_bytes); /* gaps between places, too */
  taken = 0;
  REQUIRE(xmae_motion_init(&second, &config, second_memory, four_model.memory_bytes) == XMAE_OK);
  while (left(in)) {
    uint32_t what = take8(in) % 16;
    if (what < 6) accelerate(in);
    if (what >= 3 && what < 11) push(in);
    if (what >= 7 && what < 14) read_both();
    if (what == 14) nulls();
    if (what == 15) end_and_begin();
  }
  REQUIRE(!memcmp(memory, second_memory, four_model.scratch));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  input_t in = {data, data + bytes};
  make_model();
  memory = exactly(four_model.memory_bytes), second_memory = exactly(four_model.memory_bytes);
  memory_before = exactly(four_model.memory_bytes);
  if (set_up(&in)) run(&in);
  free(memory), free(second_memory), free(memory_before);
  return 0;
}
