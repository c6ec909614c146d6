/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The watch's FIFO against a plain list: what comes out, in which order, and what is counted as
 * lost. A byte of the input is a push (of a word and a time that follow) or a pop. */
#include "fuzz.h"

#include "fifo.h"

#define MOST 4096

static struct sample expected[MOST];
static uint32_t first, last, dropped;

static void push(input_t *in) {
  struct sample sample = {take32(in), take32(in)};
  fifo_push(sample);
  uint32_t own = WORD_LOST(sample.word);
  if (last - first == FIFO_DEPTH) {
    dropped += 1 + own;
    return;
  }
  uint32_t lost = own + dropped < 63 ? own + dropped : 63;
  dropped = 0;
  sample.word = (sample.word & 0x1FFFFFFu) | lost << 25;
  expected[last++ % MOST] = sample;
}

static int pop(void) {
  struct sample sample = {0xA5A5A5A5u, 0x5A5A5A5Au};
  int some = fifo_pop(&sample);
  REQUIRE(some == (first != last));
  if (!some) {
    REQUIRE(sample.word == 0xA5A5A5A5u && sample.time_ms == 0x5A5A5A5Au);
    return 0;
  }
  REQUIRE(sample.word == expected[first % MOST].word);
  REQUIRE(sample.time_ms == expected[first % MOST].time_ms);
  first++;
  return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  input_t in = {data, data + bytes};
  while (left(&in)) {
    uint8_t what = take8(&in);
    for (uint32_t n = what >> 2; n + 1; n--) (void)((what & 3u) ? push(&in) : (void)pop());
  }
  while (pop()) {
  }
  /* the FIFO still owes this number: let it say so, or it stays for the next input */
  if (dropped) {
    struct sample none = {0, 0};
    fifo_push(none);
    REQUIRE(fifo_pop(&none));
    REQUIRE(WORD_LOST(none.word) == (dropped < 63 ? dropped : 63));
    dropped = 0;
  }
  return 0;
}
