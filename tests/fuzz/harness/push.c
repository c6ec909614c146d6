/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The public calls of libxmae in any order with any arguments, on a small model. Held: the status
 * that the header promises, an instance that no error changes, results within their ranges, room
 * that is what push takes, and that cutting pushes differently changes nothing. */
#include "fuzz.h"

#include <string.h>

#include "small_model.h"

#define MOST_CODES 20000u /* an input */
#define MOST 600u         /* codes at once */

static const xmae_model_t *const model = &small_model;
static xmae_t instance, second, before;
static int8_t *memory, *second_memory, *memory_before;
static xmae_config_t config;
static uint32_t taken;
static int64_t last_time;
static int32_t codes[8 * MOST], picked[MOST]; /* of all channels; of the one that is read */
static xmae_config_t picked_config; /* of the second instance, which knows this one only */
static uint32_t due;                /* ms: when the next code is, if `clocked` */
static int clocked;

static void remember(void) {
  before = instance;
  memcpy(memory_before, memory, model->memory_bytes);
}

static int same(void) {
  return !memcmp(&before, &instance, sizeof instance) &&
         !memcmp(memory_before, memory, model->memory_bytes);
}

static xmae_status_t expected_of_init(uint32_t bytes, uint32_t shift) {
  if (config.model->magic != XMAE_MODEL_MAGIC) return XMAE_ERROR_MODEL;
  if (config.model->version != XMAE_MODEL_VERSION) return XMAE_ERROR_VERSION;
  if (config.rate < XMAE_MIN_RATE || config.rate > XMAE_MAX_RATE) return XMAE_ERROR_RATE;
  if (config.bits < XMAE_MIN_BITS || config.bits > XMAE_MAX_BITS) return XMAE_ERROR_BITS;
  if (config.hop_s < 1 || config.hop_s > XMAE_MAX_HOP_S) return XMAE_ERROR_HOP;
  uint32_t channels = config.channels ? config.channels : 1;
  if (channels > XMAE_MAX_CHANNELS || config.channel >= channels) return XMAE_ERROR_CHANNEL;
  return bytes < model->memory_bytes || shift % 4 ? XMAE_ERROR_MEMORY : XMAE_OK;
}

/* An instance with any configuration; whether it stands. */
static int set_up(input_t *in) {
  struct xmae_model forged = small_model;
  uint32_t odd = take8(in), shift = 0, bytes = model->memory_bytes;
  config.model = model;
  config.rate = odd & 1 ? take32(in) : take_from(in, XMAE_MIN_RATE, XMAE_MAX_RATE);
  config.bits = odd & 2 ? take8(in) : (uint8_t)take_from(in, XMAE_MIN_BITS, XMAE_MAX_BITS);
  config.hop_s = odd & 4 ? take16(in) : (uint16_t)take_from(in, 1, 4);
  config.inverted = take8(in);
  config.channels = odd & 128 ? take8(in) : (uint8_t)take_from(in, 0, 3);
  config.channel = config.channels ? take8(in) % (config.channels + (odd & 128 ? 1u : 0u)) : 0;
  if (odd & 8) shift = take8(in) % 4; /* a whole one would lie beyond the end */
  if (odd & 16) bytes = take32(in);
  if (odd & 32) config.model = &forged, forged.magic ^= take32(in);
  if (odd & 64) config.model = &forged, forged.version ^= take16(in);
  memset(&instance, 0xA5, sizeof instance);
  memset(memory, 0x5A, model->memory_bytes);
  remember();
  xmae_status_t status = xmae_init(&instance, &config, memory + shift, bytes), want;
  want = expected_of_init(bytes, shift);
  REQUIRE(status == want);
  if (status != XMAE_OK) REQUIRE(same() && !xmae_room(&instance) && !xmae_ready(&instance));
  return status == XMAE_OK && config.model == model;
}

/* Codes of one kind, right or not. */
static uint32_t make_codes(input_t *in) {
  uint32_t kind = take8(in), n = take16(in) % (MOST + 1), all, value = take32(in),
           step = take16(in);
  uint32_t mask = kind & 64 ? 0xFFFFFFFFu : ((uint32_t)1 << config.bits) - 1u;
  uint32_t channels = config.channels ? config.channels : 1;
  all = n * channels;
  for (uint32_t i = 0; i < all; i++) {
    if ((kind & 3) == 1) value += step;
    if ((kind & 3) == 2) value = i % (step % 200 + 2) < step % 200 / 4 + 1 ? 0 : mask;
    if ((kind & 3) == 3) value = value * 1103515245u + 12345u;
    codes[i] = (int32_t)((kind & 3) == 3 ? value >> 8 & mask : value & mask);
  }
  for (uint32_t i = 0; i < n; i++) picked[i] = codes[i * channels + config.channel];
  return n;
}

static xmae_status_t expected_of_push(uint32_t n, uint32_t lost, uint32_t room) {
  if ((uint64_t)n + lost > room) return XMAE_ERROR_OVERRUN;
  for (uint32_t i = 0; i < n; i++)
    if (picked[i] < 0 || (uint32_t)picked[i] >> config.bits) return XMAE_ERROR_CODE;
  return XMAE_OK;
}

/* The same codes to the second instance, cut anywhere; but the first code known comes with the lost
 * ones before it, for it stands for them. */
static void push_in_parts(input_t *in, uint32_t n, uint32_t lost) {
  uint32_t cut = n ? take16(in) % (n + 1) : 0;
  if (n && lost && !cut && second.last_code < 0) cut = 1;
  REQUIRE(xmae_push(&second, picked, cut, lost) == XMAE_OK);
  REQUIRE(xmae_push(&second, picked + cut, n - cut, 0) == XMAE_OK);
}

/* Codes that a step of the clock says are lost; -1 for a step back. */
static int64_t lost_at(uint32_t time) {
  int64_t ahead = clocked ? (int32_t)(time - due) : 0;
  if (ahead < -XMAE_JITTER_MS) return -1;
  return ahead <= XMAE_JITTER_MS ? 0 : (ahead * (int64_t)config.rate / 1000 + 500) / 1000;
}

/* With a time: near where it is due, or any. */
static void push_at(input_t *in) {
  uint32_t n = make_codes(in), room = xmae_room(&instance), step = take8(in);
  uint32_t time = step == 255 ? take32(in) : due + 10 * step - 60;
  int64_t lost = n ? lost_at(time) : 0;
  if (lost >= 0 && lost <= room && taken + n + (uint64_t)lost > MOST_CODES) return;
  remember();
  xmae_status_t want = XMAE_OK, status = xmae_push_at(&instance, codes, n, time);
  if (lost < 0)
    want = XMAE_ERROR_TIME;
  else if (n)
    want = lost > UINT32_MAX ? XMAE_ERROR_OVERRUN : expected_of_push(n, (uint32_t)lost, room);
  REQUIRE(status == want);
  if (status != XMAE_OK || !n) {
    REQUIRE(same());
    return;
  }
  taken += n + (uint32_t)lost;
  push_in_parts(in, n, (uint32_t)lost);
  clocked = 1, due = time + (uint32_t)((uint64_t)n * 1000000u / config.rate);
}

static void push(input_t *in) {
  uint32_t n = make_codes(in), lost = take8(in), room = xmae_room(&instance);
  if (lost >= 250) lost = take32(in);
  if (lost > 1000 && lost <= room) lost = 1000;
  if (taken + n + lost > MOST_CODES && lost <= room) return;
  remember();
  xmae_status_t want = expected_of_push(n, lost, room);
  xmae_status_t status = xmae_push(&instance, codes, n, lost);
  REQUIRE(status == want);
  if (status != XMAE_OK) {
    REQUIRE(same());
    return;
  }
  taken += n + lost;
  if (n + lost) clocked = 0;
  REQUIRE(xmae_room(&instance) <= room - n - lost || (!before.waiting && instance.waiting));
  push_in_parts(in, n, lost);
}

static void check_result(const xmae_result_t *r) {
  REQUIRE(r->time > last_time && r->time % XMAE_TICKS_PER_SECOND == 0);
  REQUIRE(r->n_beats <= XMAE_MAX_BEATS);
  REQUIRE(r->rate == 0 || (r->rate >= 3000 && r->rate <= 22000));
  REQUIRE(r->rate ? r->low <= r->rate && r->rate <= r->high : !r->low && !r->high);
  REQUIRE(!r->rate == !!(r->reasons & (XMAE_FLAT | XMAE_START | XMAE_UNSURE | XMAE_MIXED)));
  REQUIRE(!(r->reasons & XMAE_LOST) == !r->lost && !(r->reasons & XMAE_SATURATED) == !r->saturated);
  REQUIRE(r->reasons < 64 && r->rhythm <= XMAE_RHYTHM_IRREGULAR && r->irregularity >= -1);
  for (int i = 1; i < r->n_beats; i++) REQUIRE(r->beats[i - 1].time < r->beats[i].time);
  if (r->n_beats) REQUIRE(r->beats[r->n_beats - 1].time <= r->time);
  last_time = r->time;
}

static void read_both(void) {
  xmae_result_t result, other;
  memset(&result, 0, sizeof result), memset(&other, 0, sizeof other);
  int ready = xmae_ready(&instance);
  REQUIRE(ready == xmae_ready(&second) && xmae_room(&instance) == xmae_room(&second));
  xmae_status_t status = xmae_read(&instance, &result);
  REQUIRE(status == (ready ? XMAE_OK : XMAE_EMPTY) && xmae_read(&second, &other) == status);
  REQUIRE(!memcmp(&result, &other, sizeof result) && !xmae_ready(&instance));
  if (ready) check_result(&result);
  (void)xmae_milliseconds(&instance, result.time);
}

/* The window and its embedding: the same of both instances, and nothing else moves. */
static void embed(void) {
  int8_t windows[2][XMAE_WINDOW], embeddings[2][4];
  int8_t *work = exactly(model->embed_bytes);
  remember();
  xmae_status_t status = xmae_copy_window(&instance, windows[0]);
  REQUIRE(status == (before.seconds < 10 ? XMAE_EMPTY : XMAE_OK));
  REQUIRE(xmae_copy_window(&second, windows[1]) == status);
  for (int i = 0; i < 2; i++) {
    const xmae_t *x = i ? &second : &instance;
    REQUIRE(xmae_embed(x, work, model->embed_bytes - 1, embeddings[i], 4) == XMAE_ERROR_MEMORY);
    REQUIRE(xmae_embed(x, work, model->embed_bytes, embeddings[i], 3) == XMAE_ERROR_SIZE);
    REQUIRE(xmae_embed(x, work, model->embed_bytes, embeddings[i], 4) == status);
  }
  if (status == XMAE_OK) {
    int32_t value;
    REQUIRE(!memcmp(windows[0], windows[1], XMAE_WINDOW) &&
            !memcmp(embeddings[0], embeddings[1], 4));
    REQUIRE(xmae_head(model, 0, embeddings[0], &value) == XMAE_OK);
    REQUIRE(xmae_head(model, 1, embeddings[0], &value) == XMAE_ERROR_HEAD);
  }
  REQUIRE(same());
  free(work);
}

static void nulls(void) {
  remember();
  REQUIRE(xmae_push(&instance, NULL, 1, 0) == XMAE_ERROR_NULL && same());
  REQUIRE(xmae_push(&instance, NULL, 0, 0) == XMAE_OK && same());
  REQUIRE(xmae_read(&instance, NULL) == XMAE_ERROR_NULL && same());
  REQUIRE(xmae_init(NULL, &config, memory, model->memory_bytes) == XMAE_ERROR_NULL);
  REQUIRE(xmae_init(&instance, NULL, memory, model->memory_bytes) == XMAE_ERROR_NULL && same());
  REQUIRE(xmae_init(&instance, &config, NULL, 0) == XMAE_ERROR_NULL && same());
}

static void run(input_t *in) {
  memset(second_memory, 0x5A, model->memory_bytes); /* gaps between places, too */
  taken = 0, last_time = 0;
  picked_config = config, picked_config.channels = picked_config.channel = 0;
  clocked = 0, due = 0;
  REQUIRE(xmae_init(&second, &picked_config, second_memory, model->memory_bytes) == XMAE_OK);
  while (left(in)) {
    uint32_t what = take8(in) % 16;
    if (what < 6) push(in);
    if (what >= 3 && what < 9) push_at(in);
    if (what == 13) embed();
    if (what >= 6 && what < 14) read_both();
    if (what == 14) nulls();
    if (what != 15) continue;
    REQUIRE(xmae_reset(&instance) == XMAE_OK && xmae_reset(&second) == XMAE_OK);
    last_time = 0, clocked = 0;
  }
  REQUIRE(!memcmp(memory, second_memory, model->map));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  input_t in = {data, data + bytes};
  memory = exactly(model->memory_bytes), second_memory = exactly(model->memory_bytes);
  memory_before = exactly(model->memory_bytes);
  if (set_up(&in)) run(&in);
  free(memory), free(second_memory), free(memory_before);
  return 0;
}
