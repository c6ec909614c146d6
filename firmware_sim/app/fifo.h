/* The sample FIFO between the optical front end's interrupt and the main loop.
 *
 * A word is one sample as the front end delivers it: bits 0-23 the unsigned code (16-24 bits wide),
 * bit 24 set if the converter saturated, bits 25-30 how many samples were lost just before this
 * one. Beside it stands the time at which it was read, in ms of the watch's own clock. One writer
 * (interrupt), one reader (main loop) on one core, no lock: a sample is in the ring before it is
 * counted as written, and out of it before its place counts as free. */
#ifndef FIFO_H
#define FIFO_H
#include "watch_config.h"
#include <stdint.h>

#define FIFO_RAM (FIFO_DEPTH * sizeof(struct sample))
#define WORD_CODE(word) ((word) & 0xFFFFFFu)
#define WORD_SATURATED(word) ((word) >> 24 & 1u)
#define WORD_LOST(word) ((word) >> 25 & 63u)

struct sample {
  uint32_t word, time_ms;
};

/* by the interrupt; when full, the sample is counted as lost */
void fifo_push(struct sample sample);
int fifo_pop(struct sample *sample); /* by the main loop; 0 when empty */
#endif
