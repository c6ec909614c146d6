/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* Result frames with any numbers in them, read back by a parser that knows the format only: sync,
 * version, length and CRC hold, and every field is the one that was given. */
#include "fuzz.h"

#include <string.h>

#include "board.h"
#include "frame.h"

static uint8_t wire[FRAME_RAM];
static uint32_t on_wire;

void board_write(const void *bytes, uint32_t n) {
  REQUIRE(!on_wire && n <= sizeof wire);
  memcpy(wire, bytes, n);
  on_wire = n;
}

static uint32_t at(uint32_t place, uint32_t bytes) {
  uint32_t value = 0;
  for (uint32_t i = 0; i < bytes; i++) value |= (uint32_t)wire[place + i] << 8 * i;
  return value;
}

/* CRC-32 bit by bit, as IEEE 802.3 writes it. */
static uint32_t crc32_of(const uint8_t *bytes, uint32_t n) {
  uint32_t crc = 0xFFFFFFFFu;
  for (uint32_t i = 0; i < n; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
  }
  return ~crc;
}

static void whole(uint32_t kind, uint32_t payload) {
  REQUIRE(on_wire == 6 + payload + 4);
  REQUIRE(at(0, 2) == 0x5EA7u && wire[2] == FRAME_VERSION && wire[3] == kind);
  REQUIRE(at(4, 2) == payload);
  REQUIRE(at(on_wire - 4, 4) == crc32_of(wire + 2, on_wire - 6));
  on_wire = 0;
}

static void result(input_t *in) {
  float heads[N_HEADS];
  int8_t embedding[EMBEDDING_N];
  struct result r = {.sequence = take32(in), .start_ms = take32(in)};
  r.status = take16(in), r.lost = take16(in), r.saturated = take16(in);
  r.n_heads = (uint16_t)take_from(in, 0, N_HEADS);
  r.n_embedding = (uint16_t)take_from(in, 0, EMBEDDING_N);
  for (uint32_t i = 0; i < N_HEADS; i++) {
    uint32_t bits = take32(in); /* infinities and what is no number, too */
    memcpy(&heads[i], &bits, 4);
  }
  for (uint32_t i = 0; i < EMBEDDING_N; i++) embedding[i] = (int8_t)take8(in);
  frame_result(&r, heads, embedding);
  REQUIRE(at(6, 4) == r.sequence && at(10, 4) == r.start_ms);
  REQUIRE(at(14, 2) == r.status && at(16, 2) == r.lost && at(18, 2) == r.saturated);
  REQUIRE(at(20, 2) == r.n_heads && at(22, 2) == r.n_embedding);
  REQUIRE(!memcmp(wire + 24, heads, 4u * r.n_heads));
  REQUIRE(!memcmp(wire + 24 + 4u * r.n_heads, embedding, r.n_embedding));
  whole(FRAME_RESULT, 18u + 4u * r.n_heads + r.n_embedding);
}

static void boot(input_t *in) {
  uint32_t status = take16(in), crc = take32(in);
  frame_boot(status, crc);
  REQUIRE(at(6, 2) == status && at(8, 4) == crc);
  whole(FRAME_BOOT, 6);
}

static void window(input_t *in) {
  int8_t codes[WINDOW_N];
  for (uint32_t i = 0; i < WINDOW_N; i++) codes[i] = (int8_t)take8(in);
  frame_input(codes);
  REQUIRE(!memcmp(wire + 6, codes, WINDOW_N));
  whole(FRAME_INPUT, WINDOW_N);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  input_t in = {data, data + bytes};
  for (int n = 0; n < 8 && left(&in); n++) {
    uint32_t kind = take_from(&in, 0, 2);
    if (kind == 0)
      result(&in);
    else if (kind == 1)
      boot(&in);
    else
      window(&in);
  }
  return 0;
}
