/* Is there a pulse? A check of the network's input, so that noise gets no heart rate.
 * `xmae.signals.stream.has_pulse` defines it; both compute in whole numbers and decide the same. */
#ifndef PULSE_H
#define PULSE_H
#include "watch_config.h"
#include <stdint.h>

#define PULSE_N (WINDOW_N / PULSE_STEP)
#define PULSE_RAM (4u * PULSE_N)

int has_pulse(const int8_t input[WINDOW_N]);
#endif
