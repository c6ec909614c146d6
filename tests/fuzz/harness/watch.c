/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The whole watch but its network: any words into the FIFO, in any bursts, at any time; whole
 * frames out, in order, and no number in a result that is marked invalid.
 *
 * The input is short orders, so that a few bytes make 16 s of signal: hold a code, step, wave,
 * noise, or a word as it is. */
#include "fuzz.h"

#include <string.h>

#include "app/watch.c"

#define MOST_SAMPLES 6000u /* an input, lost ones included */

static input_t orders;
static struct sample next;
static uint32_t count, order, step, samples, frames;
static int32_t wave, rise;

uint32_t xmae_crc32(uint32_t crc, const void *data, uint32_t bytes);

void phase_boot(void) {}
void phase_samples(void) {}
void phase_front_end(void) {}
void phase_heads(void) {}
void phase_frame(void) {}
void phase_trace(void) {}
int board_open(void) { return 1; }

int board_flash_intact(uint32_t *crc) {
  *crc = 0;
  return 1;
}

/* The network is fuzzed by itself; what it says here depends on what it sees. */
void xmae_model(const int8_t *input, int8_t *output) {
  for (int i = 0; i < XMAE_OUTPUT_SIZE; i++) output[i] = input[i % XMAE_INPUT_SIZE];
}

static void new_order(void) {
  order = take8(&orders);
  count = order & 1 ? take8(&orders) : take16(&orders) % 1024;
  step = take16(&orders);
  if (order & 2) next.word = take32(&orders);
  if (order & 4) next.time_ms = take32(&orders);
}

/* The next sample; 0 at the end of the orders. */
static int sample(void) {
  if (samples >= MOST_SAMPLES) return 0;
  while (!count) {
    if (!left(&orders)) return 0;
    new_order();
  }
  count--;
  next.time_ms += order & 8 ? step : 1000u / SFREQ;
  uint32_t code = next.word & 0xFFFFFFu, flags = next.word & 0x7F000000u;
  if ((order >> 4 & 3) == 1) code += step;
  if ((order >> 4 & 3) == 2) { /* a triangle: a pulse of some rate */
    if (wave > 8 || wave < -8) rise = wave > 0 ? -1 : 1;
    wave += rise ? rise : 1;
    code = 32768u + (uint32_t)(wave * (int32_t)(step % 2048));
  }
  if ((order >> 4 & 3) == 3) code = code * 1103515245u + 12345u;
  if (!(order & 64)) flags = 0;
  next.word = (code & (order & 128 ? 0xFFFFFFu : FULL_SCALE)) | flags;
  samples += 1 + WORD_LOST(next.word);
  return 1;
}

int board_wait(void) {
  uint32_t burst = 1 + (order & 128 ? step % 80 : 0); /* more than the FIFO holds, too */
  for (uint32_t i = 0; i < burst; i++) {
    if (!sample()) return i > 0;
    fifo_push(next);
  }
  return 1;
}

void board_write(const void *bytes, uint32_t n) {
  const uint8_t *wire = bytes;
  uint32_t crc, payload = (uint32_t)wire[4] | (uint32_t)wire[5] << 8;
  REQUIRE(n == payload + 10 && wire[0] == 0xA7 && wire[1] == 0x5E && wire[2] == FRAME_VERSION);
  memcpy(&crc, wire + n - 4, 4);
  REQUIRE(crc == xmae_crc32(0, wire + 2, n - 6));
  REQUIRE((wire[3] == FRAME_BOOT) == (frames == 0));
  if (wire[3] == FRAME_RESULT) {
    uint32_t sequence_sent, invalid = (uint32_t)wire[15] & 0x80u;
    memcpy(&sequence_sent, wire + 6, 4);
    REQUIRE(sequence_sent == sequence - 1);
    REQUIRE(!invalid || payload == 18);
    REQUIRE(invalid || payload == RESULT_BYTES);
    for (uint32_t h = 0; !invalid && h < N_HEADS; h++) {
      float value;
      memcpy(&value, wire + 24 + 4 * h, 4);
      REQUIRE(value >= constants.head_low[h] && value <= constants.head_high[h]);
    }
  }
  frames++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  orders.at = data, orders.end = data + bytes;
  next.word = next.time_ms = count = order = step = samples = frames = 0;
  wave = rise = 0;
  total = equal = newest_ms = sequence = 0;
  REQUIRE(app() == 0 && frames >= 1);
  struct sample rest;
  REQUIRE(!fifo_pop(&rest));
  return 0;
}
