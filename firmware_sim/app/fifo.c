#include "fifo.h"

/* The compiler may not move what lies in the ring across the counts; one core sees its own accesses
 * in order. */
#define IN_ORDER() __asm__ volatile("" ::: "memory")

static struct sample ring[FIFO_DEPTH];
/* running counts; their difference is what is in the FIFO */
static volatile uint32_t written, taken;
static uint32_t overflow; /* samples that found it full since the last one that did not */

_Static_assert((FIFO_DEPTH & (FIFO_DEPTH - 1u)) == 0u, "FIFO_DEPTH is no power of 2");

void fifo_push(struct sample sample) {
  if (written - taken == FIFO_DEPTH) {
    overflow += 1u + WORD_LOST(sample.word);
    return;
  }
  uint32_t lost = WORD_LOST(sample.word) + overflow;
  lost = lost > 63u ? 63u : lost;
  overflow = 0;
  sample.word = (sample.word & 0x1FFFFFFu) | lost << 25;
  ring[written % FIFO_DEPTH] = sample;
  IN_ORDER();
  written++;
}

int fifo_pop(struct sample *sample) {
  if (written == taken) return 0;
  IN_ORDER();
  *sample = ring[taken % FIFO_DEPTH];
  IN_ORDER();
  taken++;
  return 1;
}
