/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* What the library costs on this core: ticks of SysTick and depth of the stack, at the shipped
 * recording, at noise and at pulses of irregular length.
 *
 * In QEMU with `-icount shift=0` an instruction takes 1 ns, and a tick of the 25 MHz clock 40 of
 * them. */
#include "port.h"
#include "recording.h"
#include "xmae/xmae_model_@name@.h"

#define MODEL xmae_model_@name@
#define MODEL_BYTES XMAE_MODEL_@NAME@_BYTES
#define EMBED_BYTES XMAE_MODEL_@NAME@_EMBED_BYTES
#define EMBEDDING_SIZE XMAE_MODEL_@NAME@_EMBEDDING_SIZE
#define REGISTER(address) (*(volatile uint32_t *)(address))
#define PER_TICK 40u
#define PAINT 0xa5a5a5a5u
#define PAINTED 1024u /* words */

extern uint32_t stack_top;
static xmae_t stream;
static xmae_result_t result;
static uint32_t memory[MODEL_BYTES / 4 + 1], embed_memory[EMBED_BYTES / 4 + 1];
static int8_t embedding[EMBEDDING_SIZE];

static void put(const char *what, uint32_t value) {
  char text[12];
  uint32_t at = sizeof text;
  text[--at] = 0;
  do text[--at] = (char)('0' + value % 10u);
  while (value /= 10u);
  say(what);
  say(text + at);
}

static uint32_t now(void) { return REGISTER(0xe000e018); } /* counts down from 2^24 - 1 */
static uint32_t since(uint32_t start) { return PER_TICK * ((start - now()) & 0xffffffu); }

static void paint(void) {
  volatile uint32_t *top = (volatile uint32_t *)__builtin_frame_address(0) - 32;
  for (uint32_t i = 0; i < PAINTED; i++) top[-(int32_t)i] = PAINT;
}

static uint32_t depth(void) {
  const volatile uint32_t *word =
      (const volatile uint32_t *)__builtin_frame_address(0) - 32 - PAINTED + 1;
  while (*word == PAINT) word++;
  return (uint32_t)((const char *)&stack_top - (const char *)word);
}

static int32_t noise(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (int32_t)(state >> 8);
}

/* As many beats as may be: pulses of 0.3 to 0.42 s at 100 Hz. */
static int32_t pulse(void) {
  static int32_t left, length = 30;
  if (left == 0) {
    length = 30 + (length * 7 + 5) % 13;
    left = length;
  }
  left--;
  int32_t height = 2 * left < length ? left : length - left;
  return 8388608 + 65536 * height;
}

static int32_t code_of(char kind, uint32_t i) {
  if (kind == 'n') return noise();
  return kind == 'p' ? pulse() : xmae_recording[i];
}

static int measure(char kind, const xmae_config_t *config, uint32_t n) {
  uint32_t total = 0, longest = 0, code_longest = 0, start = now();
  if (xmae_init(&stream, config, memory, sizeof memory) != XMAE_OK) return 1;
  uint32_t init = since(start);
  paint();
  for (uint32_t i = 0; i < n; i++) {
    int32_t code = code_of(kind, i);
    start = now();
    if (xmae_push(&stream, &code, 1, 0) != XMAE_OK) return 2;
    uint32_t took = since(start);
    int completes = xmae_read(&stream, &result) == XMAE_OK;
    total += took;
    if (completes && took > longest) longest = took;
    if (!completes && took > code_longest) code_longest = took;
  }
  put(kind == 'n' ? "noise, " : kind == 'p' ? "pulses, " : "recording, ", config->rate / 1000u);
  put(" Hz: a second ", total / (n * 1000u / config->rate));
  put(", longest push ", longest);
  put(", longest without a result ", code_longest);
  put(", init ", init);
  put(", stack ", depth());
  start = now();
  if (xmae_embed(&stream, embed_memory, sizeof embed_memory, embedding, sizeof embedding) !=
      XMAE_OK)
    return 3;
  put(", embedding ", since(start));
  put(", stack ", depth());
  say("\n");
  return 0;
}

int main(void) {
  static const xmae_config_t recording = {
      &MODEL, 1000u * XMAE_RECORDING_HZ, XMAE_RECORDING_BITS, 0, 1, 1, 0};
  static const xmae_config_t fast = {&MODEL, 500000, 24, 0, 1, 1, 0};
  static const xmae_config_t slow = {&MODEL, 25000, 24, 0, 1, 1, 0};
  static const xmae_config_t pulses = {&MODEL, 100000, 24, 0, 1, 1, 0};
  REGISTER(0xe000e014) = 0xffffffu;
  REGISTER(0xe000e018) = 0;
  REGISTER(0xe000e010) = 5;
  int failed = measure('r', &recording, XMAE_RECORDING_CODES);
  if (!failed) failed = measure('n', &fast, 500u * 30u);
  if (!failed) failed = measure('n', &slow, 25u * 60u);
  if (!failed) failed = measure('p', &pulses, 100u * 60u);
  return failed;
}
