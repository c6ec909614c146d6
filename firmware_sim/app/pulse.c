#include "pulse.h"

static int32_t steps[PULSE_N]; /* WINDOW_N times the deviation of the mean of PULSE_STEP samples */

_Static_assert(WINDOW_N % PULSE_STEP == 0, "steps do not fill the window");

/* All lags are computed, whatever the input: the time is always the same. Sums stay below 2^57. */
int has_pulse(const int8_t input[WINDOW_N]) {
  int32_t total = 0, squares = 0;
  for (int i = 0; i < PULSE_N; i++) {
    int32_t sum = 0;
    for (int k = 0; k < PULSE_STEP; k++) {
      const int32_t x = input[i * PULSE_STEP + k];
      sum += x;
      squares += x * x;
    }
    total += sum;
    steps[i] = PULSE_N * sum;
  }
  for (int i = 0; i < PULSE_N; i++) steps[i] -= total;
  const int64_t power = PULSE_N * ((int64_t)WINDOW_N * squares - (int64_t)total * total);

  int smooth = 0, was_negative = 0, again = 0;
  for (int lag = 1; lag <= LONGEST_LAG; lag++) {
    int64_t sum = 0;
    for (int i = lag; i < PULSE_N; i++) sum += (int64_t)steps[i] * steps[i - lag];
    /* against a share of the power in %; a longer lag has fewer products */
    sum *= 100 * PULSE_N;
    const int64_t share = power * (PULSE_N - lag);
    if (lag == 1) smooth = sum >= MIN_SMOOTHNESS * share;
    was_negative |= sum < 0;
    again |= was_negative && lag >= SHORTEST_LAG && sum >= MIN_PERIODICITY * share;
  }
  return power > 0 && smooth && again;
}
