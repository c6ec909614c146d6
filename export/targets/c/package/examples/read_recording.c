/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* Read the shipped recording and print a line a second, as Python's `xmae.Stream` does. */
#include "port.h"
#include "recording.h"
#include "xmae/xmae_model_@name@.h"

#define MODEL xmae_model_@name@
#define MODEL_BYTES XMAE_MODEL_@NAME@_BYTES
#define BURST 32 /* codes that come at once, as from the FIFO of an optical front end */

static xmae_t stream;
static uint32_t memory[MODEL_BYTES / 4 + 1];
static xmae_result_t result;

static char line[512];
static uint32_t length; /* of the line so far */

static void put(const char *text) {
  while (*text && length < sizeof line - 2) line[length++] = *text++;
}

/* Go on at a column. */
static void go_to(uint32_t column) {
  while (length < column) line[length++] = ' ';
}

/* A whole number over 10^places, in at least `width` columns. */
static void put_number(int32_t value, uint32_t places, uint32_t width) {
  char text[16];
  uint32_t at = sizeof text, digits = 0, rest = (uint32_t)(value < 0 ? -value : value);
  text[--at] = 0;
  while (rest || digits <= places) {
    if (digits == places && places) text[--at] = '.';
    text[--at] = (char)('0' + rest % 10u);
    rest /= 10u;
    digits++;
  }
  if (value < 0) text[--at] = '-';
  uint32_t written = (uint32_t)sizeof text - 1 - at;
  if (written < width) go_to(length + width - written);
  put(text + at);
}

/* The time of ticks in steps of some milliseconds, rounded; of the first 24 days. */
static int32_t time_in(int32_t step, int64_t ticks) {
  int32_t ms = (int32_t)xmae_milliseconds(&stream, ticks) + step / 2;
  return ms / step - (ms % step < 0);
}

static void put_heart_rate(void) {
  static const char *const rhythms[] = {"rhythm unknown", "regular", "ectopic-like",
                                        "irregularly irregular"};
  if (!result.rate) {
    put("no heart rate");
    return;
  }
  put_number((result.rate + 5) / 10, 1, 0);
  put(" bpm (");
  put_number((result.low + 5) / 10, 1, 0);
  put(" to ");
  put_number((result.high + 5) / 10, 1, 0);
  put("), ");
  put(rhythms[result.rhythm]);
}

static void put_beats(void) {
  put("beats at ");
  for (uint32_t i = 0; i < result.n_beats; i++) {
    if (i) put(" ");
    put_number(time_in(10, result.beats[i].time), 2, 0);
  }
  if (!result.n_beats) put("none");
}

static void put_reasons(void) {
  static const char *const reasons[] = {"samples lost",    "at the converter's rail",
                                        "nothing moves",   "less than 10 s of signal",
                                        "not sure enough", "the signal repeats after another time"};
  const char *before = " [";
  for (uint32_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
    if (!(result.reasons >> i & 1u)) continue;
    put(before);
    put(reasons[i]);
    before = "; ";
  }
  if (result.reasons) put("]");
}

static void say_result(void) {
  length = 0;
  put_number(time_in(100, result.time), 1, 7);
  put(" s  ");
  put_heart_rate();
  go_to(11 + 45);
  put("  sure ");
  put_number(100 * result.certainty / 255, 0, 0);
  put(" %");
  go_to(11 + 45 + 2 + 9);
  put("  ");
  put_beats();
  put_reasons();
  put("\n");
  line[length] = 0;
  say(line);
}

int main(void) {
  static const xmae_config_t config = {
      &MODEL,                    /* model */
      1000u * XMAE_RECORDING_HZ, /* rate */
      XMAE_RECORDING_BITS,       /* bits */
      0,                         /* inverted */
      1,                         /* hop */
      1,                         /* channels */
      0,                         /* channel */
  };
  if (xmae_check_model(config.model) != XMAE_OK) return 1;
  if (xmae_init(&stream, &config, memory, sizeof memory) != XMAE_OK) return 2;
  for (uint32_t i = 0; i < XMAE_RECORDING_CODES; i += BURST) {
    uint32_t left = XMAE_RECORDING_CODES - i;
    if (xmae_push(&stream, xmae_recording + i, left < BURST ? left : BURST, 0) != XMAE_OK) return 3;
    if (xmae_read(&stream, &result) == XMAE_OK) say_result();
  }
  return 0;
}
