/* What the board gives the firmware: samples, a way out, and places for an emulator to watch. */
#ifndef BOARD_H
#define BOARD_H
#include <stdint.h>

int board_open(void);
/* Whether all of the flash (code, constants, weights) is what was built, by its CRC-32. */
int board_flash_intact(uint32_t *crc);
/* Sleep until the optical front end has put new samples into the FIFO; 0 when its recording has
 * ended. */
int board_wait(void);
void board_write(const void *bytes, uint32_t n);

/* Called where a phase of the work begins; they do nothing, an emulator counts between them. */
void phase_boot(void);
void phase_samples(void);
void phase_front_end(void);
void phase_heads(void);
void phase_frame(void);
void phase_trace(void);
#endif
