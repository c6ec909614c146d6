#include "frame.h"
#include "board.h"
#include "xmae_kernels.h"
#include <string.h>

static uint8_t frame[FRAME_RAM];
static uint32_t length; /* bytes in it */

static void put(const void *bytes, uint32_t n) {
  memcpy(frame + length, bytes, n);
  length += n;
}

static void put_u16(uint32_t value) {
  frame[length++] = (uint8_t)value;
  frame[length++] = (uint8_t)(value >> 8);
}

static void put_u32(uint32_t value) {
  put_u16(value & 0xFFFFu);
  put_u16(value >> 16);
}

static void begin(enum frame_kind kind, uint32_t n_payload) {
  length = 0;
  put_u16(0x5EA7u);
  put_u16(FRAME_VERSION | (uint32_t)kind << 8);
  put_u16(n_payload);
}

static void end(void) {
  put_u32(xmae_crc32(0, frame + 2, length - 2u));
  board_write(frame, length);
}

void frame_boot(uint32_t status, uint32_t flash_crc) {
  begin(FRAME_BOOT, 6);
  put_u16(status);
  put_u32(flash_crc);
  end();
}

void frame_result(const struct result *result, const float *heads, const int8_t *embedding) {
  begin(FRAME_RESULT, 18u + 4u * result->n_heads + result->n_embedding);
  put_u32(result->sequence);
  put_u32(result->start_ms);
  put_u16(result->status);
  put_u16(result->lost);
  put_u16(result->saturated);
  put_u16(result->n_heads);
  put_u16(result->n_embedding);
  for (uint32_t i = 0; i < result->n_heads; i++) {
    uint32_t bits;
    memcpy(&bits, &heads[i], 4);
    put_u32(bits);
  }
  put(embedding, result->n_embedding);
  end();
}

#if TRACE
void frame_input(const int8_t input[WINDOW_N]) {
  begin(FRAME_INPUT, WINDOW_N);
  put(input, WINDOW_N);
  end();
}
#endif
