/* Pre-processing: the samples around a window become the int8 input of the network.
 *
 * `xmae.signals.stream` defines it; this is the same in single precision: band-pass forward and
 * backward over the buffer (margin, window, margin) with odd extension, polyphase resampling to 100
 * Hz, min-max scaling. */
#ifndef FRONT_END_H
#define FRONT_END_H
#include "watch_config.h"
#include <stdint.h>

#define FRONT_END_RAM (4u * (BUFFER_N + 2u * FILTER_EDGE + WINDOW_N))

/* `first` is the place of the oldest sample. Returns 0, and an input of zeros, if the window has no
 * range. */
int front_end(const int32_t ring[BUFFER_N], uint32_t first, int8_t input[WINDOW_N]);
#endif
