/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* Calls of libxmae with what it must refuse, each with its status code, and the state as it was. */
#include "port.h"
#include "xmae/xmae_model_@name@.h"
#include "xmae_internal.h" /* to forge a model */

#include <string.h>

#define MODEL xmae_model_@name@
#define MODEL_BYTES XMAE_MODEL_@NAME@_BYTES
#define EMBED_BYTES XMAE_MODEL_@NAME@_EMBED_BYTES
#define EMBEDDING_SIZE XMAE_MODEL_@NAME@_EMBEDDING_SIZE

#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) return __LINE__;                                                             \
  } while (0)
#define WORDS ((MODEL_BYTES + 3) / 4)

static uint32_t memory[WORDS], other_memory[WORDS], before_memory[WORDS];
static xmae_t stream, other, before;
static xmae_result_t result;
static const int32_t good[3] = {1, 2, 3};
static uint32_t embed_memory[EMBED_BYTES / 4 + 1];
static int8_t window[XMAE_WINDOW], embedding[EMBEDDING_SIZE];

/* Whether nothing changed since `remember`. */
static void remember(void) {
  before = stream;
  memcpy(before_memory, memory, sizeof memory);
}
static int same(void) {
  return !memcmp(&before, &stream, sizeof stream) && !memcmp(before_memory, memory, sizeof memory);
}

static int init_refuses(void) {
  const xmae_config_t config = {&MODEL, 100000, 16, 0, 1, 1, 0};
  xmae_config_t bad = config;
  struct xmae_model forged = MODEL;
  CHECK(xmae_init(0, &config, memory, sizeof memory) == XMAE_ERROR_NULL);
  CHECK(xmae_init(&stream, 0, memory, sizeof memory) == XMAE_ERROR_NULL);
  CHECK(xmae_init(&stream, &config, 0, sizeof memory) == XMAE_ERROR_NULL);
  CHECK(xmae_init(&stream, &config, memory, MODEL_BYTES - 1) == XMAE_ERROR_MEMORY);
  CHECK(xmae_init(&stream, &config, (char *)memory + 1, sizeof memory - 1) == XMAE_ERROR_MEMORY);
  bad.model = 0;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_NULL);
  bad.model = &forged, forged.magic++;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_MODEL);
  CHECK(xmae_memory_bytes(&forged) == 0);
  forged.magic--, forged.version++;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_VERSION);
  CHECK(xmae_check_model(&forged) == XMAE_ERROR_VERSION);
  forged.version--, forged.crc32++;
  CHECK(xmae_check_model(&forged) == XMAE_ERROR_MODEL);
  CHECK(xmae_check_model(0) == XMAE_ERROR_NULL && xmae_check_model(&MODEL) == XMAE_OK);
  bad = config, bad.rate = 24999;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_RATE);
  bad.rate = 500001;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_RATE);
  bad = config, bad.bits = 7;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_BITS);
  bad.bits = 25;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_BITS);
  bad = config, bad.hop_s = 0;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_HOP);
  bad.hop_s = 3601;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_HOP);
  bad = config, bad.channels = XMAE_MAX_CHANNELS + 1;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_CHANNEL);
  bad = config, bad.channel = 1;
  CHECK(xmae_init(&stream, &bad, memory, sizeof memory) == XMAE_ERROR_CHANNEL);
  return 0;
}

static int calls_before_init_refuse(void) {
  CHECK(xmae_push(0, good, 3, 0) == XMAE_ERROR_NULL &&
        xmae_push(&stream, good, 3, 0) == XMAE_ERROR_STATE);
  CHECK(xmae_read(0, &result) == XMAE_ERROR_NULL &&
        xmae_read(&stream, &result) == XMAE_ERROR_STATE);
  CHECK(xmae_reset(0) == XMAE_ERROR_NULL && xmae_reset(&stream) == XMAE_ERROR_STATE);
  CHECK(!xmae_room(0) && !xmae_room(&stream) && !xmae_ready(0) && !xmae_ready(&stream));
  CHECK(!xmae_milliseconds(0, 1) && !xmae_milliseconds(&stream, 1));
  CHECK(xmae_push_at(0, good, 3, 0) == XMAE_ERROR_NULL &&
        xmae_push_at(&stream, good, 3, 0) == XMAE_ERROR_STATE);
  CHECK(xmae_copy_window(0, window) == XMAE_ERROR_NULL &&
        xmae_copy_window(&stream, window) == XMAE_ERROR_STATE);
  CHECK(xmae_embed(0, embed_memory, EMBED_BYTES, embedding, EMBEDDING_SIZE) == XMAE_ERROR_NULL);
  CHECK(xmae_embed(&stream, embed_memory, EMBED_BYTES, embedding, EMBEDDING_SIZE) ==
        XMAE_ERROR_STATE);
  return 0;
}

static int push_refuses(const xmae_config_t *config) {
  const int32_t negative[2] = {1, -1}, wide[2] = {1, 65536};
  CHECK(xmae_init(&stream, config, memory, sizeof memory) == XMAE_OK);
  CHECK(xmae_push(&stream, good, 3, 2) == XMAE_OK);
  remember();
  CHECK(xmae_push(&stream, 0, 1, 0) == XMAE_ERROR_NULL && same());
  CHECK(xmae_push(&stream, negative, 2, 1) == XMAE_ERROR_CODE && same());
  CHECK(xmae_push(&stream, wide, 2, 0) == XMAE_ERROR_CODE && same());
  CHECK(xmae_push(&stream, 0, 0, 0xffffffffu) == XMAE_ERROR_OVERRUN && same());
  CHECK(xmae_push(&stream, good, 1, 0xffffffffu) == XMAE_ERROR_OVERRUN && same());
  CHECK(xmae_push(&stream, 0, 0, 0) == XMAE_OK && same());
  CHECK(xmae_read(&stream, 0) == XMAE_ERROR_NULL && xmae_read(&stream, &result) == XMAE_EMPTY &&
        same());
  return 0;
}

/* One result may wait; the code that would complete a second one is refused until it is read. */
static int a_second_result_waits_outside(void) {
  while (!xmae_ready(&stream)) CHECK(xmae_push(&stream, good, 1, 0) == XMAE_OK);
  CHECK(xmae_room(&stream) == 99);
  for (int i = 0; i < 99; i++) CHECK(xmae_push(&stream, good, 1, 0) == XMAE_OK);
  CHECK(xmae_room(&stream) == 0);
  remember();
  CHECK(xmae_push(&stream, good, 1, 0) == XMAE_ERROR_OVERRUN && same());
  CHECK(xmae_read(&stream, &result) == XMAE_OK && result.time == 6400 &&
        result.reasons & XMAE_START);
  CHECK(xmae_milliseconds(&stream, result.time) == 1000 + 560 - 10 * (int64_t)MODEL.look_ahead - 5);
  CHECK(xmae_push(&stream, good, 1, 0) == XMAE_OK && xmae_ready(&stream));
  return 0;
}

/* Two instances side by side give what one alone gives, and so does one after a reset. */
static int instances_are_apart(const xmae_config_t *config) {
  CHECK(xmae_reset(&stream) == XMAE_OK);
  CHECK(xmae_init(&other, config, other_memory, sizeof other_memory) == XMAE_OK);
  for (int32_t i = 0; i < 1500; i++) {
    int32_t code = i * 7919 % 30000, different = i * 104729 % 65536;
    CHECK(xmae_push(&stream, &code, 1, 0) == XMAE_OK);
    CHECK(xmae_push(&other, &different, 1, 0) == XMAE_OK);
    (void)xmae_read(&stream, &result);
    (void)xmae_read(&other, &result);
  }
  remember();
  CHECK(xmae_reset(&stream) == XMAE_OK);
  for (int32_t i = 0; i < 1500; i++) {
    int32_t code = i * 7919 % 30000;
    CHECK(xmae_push(&stream, &code, 1, 0) == XMAE_OK);
    (void)xmae_read(&stream, &result);
  }
  CHECK(same());
  return 0;
}

/* Of three channels the second is read; what the others hold does not matter. */
static int channels_are_apart(void) {
  static const xmae_config_t one = {&MODEL, 100000, 16, 0, 1, 1, 0},
                             second_of_three = {&MODEL, 100000, 16, 0, 1, 3, 1};
  CHECK(xmae_init(&stream, &one, memory, sizeof memory) == XMAE_OK);
  CHECK(xmae_init(&other, &second_of_three, other_memory, sizeof other_memory) == XMAE_OK);
  for (int32_t i = 0; i < 350; i++) {
    int32_t code = i * 7919 % 30000;
    const int32_t codes[6] = {-1, code, 1 << 30, -5, code, 99};
    CHECK(xmae_push(&stream, codes + 1, 1, 0) == XMAE_OK &&
          xmae_push(&stream, codes + 4, 1, 0) == XMAE_OK);
    CHECK(xmae_push(&other, codes, 2, 0) == XMAE_OK);
    int got = xmae_read(&stream, &result) == XMAE_OK;
    CHECK(got == (xmae_read(&other, &result) == XMAE_OK));
  }
  other.config = stream.config, other.memory = stream.memory;
  CHECK(!memcmp(&stream, &other, sizeof stream) && !memcmp(memory, other_memory, sizeof memory));
  return 0;
}

/* Times that go back are refused, those that wrap are none; a gap is lost codes. */
static int times_are_watched(const xmae_config_t *config) {
  const uint32_t start = 0u - 20u; /* wraps within the second call */
  CHECK(xmae_init(&stream, config, memory, sizeof memory) == XMAE_OK);
  CHECK(xmae_push_at(&stream, good, 3, start) == XMAE_OK); /* 30 ms */
  CHECK(xmae_push_at(&stream, good, 3, start + 30) == XMAE_OK && stream.lost[0] == 0);
  CHECK(xmae_push_at(&stream, good, 3, start + 60 + XMAE_JITTER_MS) == XMAE_OK &&
        stream.lost[0] == 0);
  uint32_t due = start + 90 + XMAE_JITTER_MS;
  remember();
  CHECK(xmae_push_at(&stream, good, 3, due - XMAE_JITTER_MS - 1) == XMAE_ERROR_TIME && same());
  CHECK(xmae_push_at(&stream, good, 3, due + 0x80000000u) == XMAE_ERROR_TIME && same());
  CHECK(xmae_push_at(&stream, good, 3, due + 0x7fffffffu) == XMAE_ERROR_OVERRUN && same());
  CHECK(xmae_push_at(&stream, good, 3, due + 60000) == XMAE_ERROR_OVERRUN && same());
  CHECK(xmae_push_at(&stream, 0, 3, due) == XMAE_ERROR_NULL && same());
  CHECK(xmae_push_at(&stream, good, 0, due + 5) == XMAE_OK && same());
  CHECK(xmae_push_at(&stream, good, 3, due + 100) == XMAE_OK && stream.lost[0] == 10);
  CHECK(xmae_push(&stream, good, 3, 0) == XMAE_OK); /* the clock is set anew */
  CHECK(xmae_push_at(&stream, good, 3, due) == XMAE_OK && stream.lost[0] == 10);
  return 0;
}

/* A burst of more than there is room for is refused as a whole, and taken in two. */
static int bursts_are_refused_whole(const xmae_config_t *config) {
  static int32_t burst[400];
  CHECK(xmae_init(&stream, config, memory, sizeof memory) == XMAE_OK);
  CHECK(xmae_room(&stream) == 307); /* 108 of history, two seconds less one */
  remember();
  CHECK(xmae_push(&stream, burst, 308, 0) == XMAE_ERROR_OVERRUN && same());
  CHECK(xmae_push(&stream, burst, 300, 8) == XMAE_ERROR_OVERRUN && same());
  CHECK(xmae_push(&stream, burst, 307, 0) == XMAE_OK && xmae_room(&stream) == 0 &&
        xmae_ready(&stream));
  CHECK(xmae_read(&stream, &result) == XMAE_OK && xmae_room(&stream) == 100);
  return 0;
}

static int embedding_refuses(const xmae_config_t *config) {
  int32_t value = 7;
  CHECK(xmae_init(&stream, config, memory, sizeof memory) == XMAE_OK);
  CHECK(xmae_copy_window(&stream, window) == XMAE_EMPTY);
  CHECK(xmae_embed(&stream, embed_memory, EMBED_BYTES, embedding, EMBEDDING_SIZE) == XMAE_EMPTY);
  for (int i = 0; i < 1108; i++) {
    CHECK(xmae_push(&stream, good + i % 3, 1, 0) == XMAE_OK);
    (void)xmae_read(&stream, &result);
  }
  remember();
  CHECK(xmae_copy_window(&stream, 0) == XMAE_ERROR_NULL &&
        xmae_copy_window(&stream, window) == XMAE_OK);
  CHECK(xmae_embed(&stream, 0, EMBED_BYTES, embedding, EMBEDDING_SIZE) == XMAE_ERROR_NULL);
  CHECK(xmae_embed(&stream, embed_memory, EMBED_BYTES, 0, EMBEDDING_SIZE) == XMAE_ERROR_NULL);
  CHECK(xmae_embed(&stream, embed_memory, EMBED_BYTES - 1, embedding, EMBEDDING_SIZE) ==
        XMAE_ERROR_MEMORY);
  CHECK(xmae_embed(&stream, (char *)embed_memory + 1, EMBED_BYTES, embedding, EMBEDDING_SIZE) ==
        XMAE_ERROR_MEMORY);
  CHECK(xmae_embed(&stream, embed_memory, EMBED_BYTES, embedding, EMBEDDING_SIZE - 1) ==
        XMAE_ERROR_SIZE);
  CHECK(xmae_embed(&stream, embed_memory, EMBED_BYTES, embedding, EMBEDDING_SIZE) == XMAE_OK &&
        same());
  CHECK(xmae_head(0, 0, embedding, &value) == XMAE_ERROR_NULL);
  CHECK(xmae_head(&MODEL, xmae_heads(&MODEL), embedding, &value) == XMAE_ERROR_HEAD && value == 7);
  CHECK(xmae_head(&MODEL, 0, 0, &value) == XMAE_ERROR_NULL &&
        xmae_head(&MODEL, 0, embedding, 0) == XMAE_ERROR_NULL);
  CHECK(!xmae_head_name(&MODEL, xmae_heads(&MODEL)) && !xmae_head_name(0, 0) && !xmae_heads(0));
  return 0;
}

static int bad_input(void) {
  static const xmae_config_t config = {&MODEL, 100000, 16, 0, 1, 1, 0};
  int line = init_refuses();
  if (!line) line = calls_before_init_refuse();
  if (!line) line = push_refuses(&config);
  if (!line) line = a_second_result_waits_outside();
  if (!line) line = instances_are_apart(&config);
  if (!line) line = channels_are_apart();
  if (!line) line = times_are_watched(&config);
  if (!line) line = bursts_are_refused_whole(&config);
  if (!line) line = embedding_refuses(&config);
  return line;
}

int main(void) {
  char text[] = "a check fails in line 000\n";
  int line = bad_input();
  for (int i = 24, rest = line; i > 21; i--, rest /= 10) text[i] = (char)('0' + rest % 10);
  say(line ? text : "bad input is refused\n");
  return line ? 1 : 0;
}
