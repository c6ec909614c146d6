#include "front_end.h"

#define EXTENDED_N (BUFFER_N + 2 * FILTER_EDGE)

static float extended[EXTENDED_N]; /* the buffer with its odd extension */
static float window[WINDOW_N];

_Static_assert(sizeof extended + sizeof window == FRONT_END_RAM,
               "FRONT_END_RAM is not what it says");

/* One pass of second-order sections in place (direct form II transposed), started in the steady
 * state of its first sample as scipy.signal.sosfiltfilt does; `step` is 1 or -1. */
static void pass(float *x, int step) {
  const float start = *x;
  float state[N_SECTIONS][2];
  for (int s = 0; s < N_SECTIONS; s++) {
    state[s][0] = constants.sos_start[s][0] * start;
    state[s][1] = constants.sos_start[s][1] * start;
  }
  for (int i = 0; i < EXTENDED_N; i++) {
    float v = x[i * step];
    for (int s = 0; s < N_SECTIONS; s++) {
      const float *c = constants.sos[s]; /* b0 b1 b2 a1 a2 */
      const float y = c[0] * v + state[s][0];
      state[s][0] = c[1] * v - c[3] * y + state[s][1];
      state[s][1] = c[2] * v - c[4] * y;
      v = y;
    }
    x[i * step] = v;
  }
}

/* Sample k at 100 Hz: the taps that meet an input sample run downwards from `centre` in steps of
 * UP. */
static float resampled(const float *x, int32_t k) {
  const int32_t centre = k * DOWN + HALF_TAPS;
  int32_t i = centre / UP;
  float sum = 0;
  if (i > BUFFER_N - 1) i = BUFFER_N - 1;
  for (int32_t tap = centre - i * UP; i >= 0 && tap <= 2 * HALF_TAPS; i--, tap += UP)
    sum += constants.taps[tap] * x[i];
  return sum;
}

int front_end(const int32_t ring[BUFFER_N], uint32_t first, int8_t input[WINDOW_N]) {
  float *const x = extended + FILTER_EDGE;
  uint32_t at = first;
  /* differences are exact in 24 bits; the band-pass takes constants out */
  for (int i = 0; i < BUFFER_N; i++) {
    x[i] = (float)(ring[at] - ring[first]);
    at = at + 1u == BUFFER_N ? 0u : at + 1u;
  }
  for (int i = 1; i <= FILTER_EDGE; i++) {
    x[-i] = 2 * x[0] - x[i];
    x[BUFFER_N - 1 + i] = 2 * x[BUFFER_N - 1] - x[BUFFER_N - 1 - i];
  }
  pass(extended, 1);
  pass(extended + EXTENDED_N - 1, -1);

  /* padtype="line" */
  const float start = x[0], slope = (x[BUFFER_N - 1] - x[0]) / (BUFFER_N - 1);
  for (int i = 0; i < BUFFER_N; i++) x[i] -= start + slope * (float)i;
  float low = 0, high = 0;
  for (int32_t k = 0; k < WINDOW_N; k++) {
    const int32_t at_100_hz = WINDOW_START + k;
    const float v = resampled(x, at_100_hz) + start + slope * ((float)(at_100_hz * DOWN) / UP);
    window[k] = v;
    if (k == 0 || v < low) low = v;
    if (k == 0 || v > high) high = v;
  }
  const int has_range = high - low >= MIN_SPAN;
  const float gain = has_range ? 2 / (high - low) / INPUT_SCALE : 0,
              offset = has_range ? 1 / INPUT_SCALE : 0;
  for (int k = 0; k < WINDOW_N; k++) {
    /* nearest */
    const int32_t code = (int32_t)((window[k] - low) * gain - offset + 512.5f) - 512 + INPUT_ZERO;
    input[k] = (int8_t)(code < -128 ? -128 : code > 127 ? 127 : code);
  }
  return has_range;
}
