/* The board in an emulator, over semihosting: "in.bin" plays the front end, "out.bin" takes the
 * frames.
 *
 * in.bin is a row of (word, time in ms), both u32. Bit 31 of the word says that the next one has
 * also arrived before the core wakes; so a test can hold the core up until the FIFO overflows. */
#include "board.h"
#include "fifo.h"
#include "semihost.h"

/* weak: host/apart.c has its own */
#define PHASE(name)                                                                                \
  __attribute__((noinline, weak)) void phase_##name(void) { __asm__ volatile("" ::: "memory"); }
PHASE(boot)
PHASE(samples)
PHASE(front_end)
PHASE(heads)
PHASE(frame)
PHASE(trace)

static int in, out;

int board_open(void) {
  in = sh_open("in.bin", 1);
  out = sh_open("out.bin", 5);
  return in >= 0 && out >= 0;
}

int board_flash_intact(uint32_t *crc) { return flash_intact(crc); }

int board_wait(void) {
  uint32_t more = 1;
  struct sample sample;
  while (more) {
    if (sh_read(in, &sample, sizeof sample) != (int)sizeof sample) return 0;
    more = sample.word >> 31;
    sample.word &= 0x7FFFFFFFu;
    fifo_push(sample);
  }
  return 1;
}

void board_write(const void *bytes, uint32_t n) { sh_write(out, bytes, n); }
