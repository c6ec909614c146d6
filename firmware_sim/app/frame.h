/* What goes over the wire, little-endian: sync A7 5E, version, kind, u16 length, payload, CRC-32 of
 * version to payload. The other side is `xmae.firmware_sim.frame`. */
#ifndef FRAME_H
#define FRAME_H
#include "watch_config.h"
#include <stdint.h>

#define FRAME_VERSION 1u
#define RESULT_BYTES (18u + 4u * N_HEADS + EMBEDDING_N)
#define FRAME_RAM (10u + (TRACE && WINDOW_N > RESULT_BYTES ? WINDOW_N : RESULT_BYTES))

enum frame_kind { FRAME_BOOT = 1, FRAME_RESULT = 2, FRAME_INPUT = 3 };

enum status {
  LOST = 1,      /* samples were lost; few are bridged by straight lines */
  SATURATED = 2, /* samples at an end of the converter's range */
  STUCK = 4,     /* the same code for a second or more */
  FLAT = 8,      /* nothing in the pulse's band */
  /* the front end's clock and the watch's differ by more than 0.5 %, or samples vanished */
  RATE = 16,
  FIRST = 32,        /* first result after a start */
  BAD_FLASH = 64,    /* the flash is not what was built: nothing is measured */
  NO_PULSE = 128,    /* what is in the pulse's band looks like none */
  IMPLAUSIBLE = 256, /* a head says what no person's can be */
  INVALID = 0x8000,  /* no result: neither heads nor embedding follow */
};

struct result {
  uint32_t sequence, start_ms; /* number since the start; time of the window's first sample */
  /* heads in the order of watch_config.h */
  uint16_t status, lost, saturated, n_heads, n_embedding;
};

void frame_boot(uint32_t status, uint32_t flash_crc);
void frame_result(const struct result *result, const float *heads, const int8_t *embedding);
void frame_input(const int8_t input[WINDOW_N]); /* what the network saw, if TRACE */
#endif
