// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: the xMAE authors
// Reads an analog optical sensor 50 times a second and prints a line a second.
#include <libxmae.h>

#define MODEL xmae_model_@name@
#define MODEL_BYTES XMAE_MODEL_@NAME@_BYTES

const uint32_t RATE_HZ = 50;
const uint8_t BITS = 10;  // of analogRead

static xmae_t stream;
static uint32_t memory[MODEL_BYTES / 4 + 1];
static xmae_result_t result;
static const xmae_config_t config = {&MODEL, 1000 * RATE_HZ, BITS, 0, 1, 1, 0};
static uint32_t next_us;

void setup() {
  Serial.begin(115200);
  if (xmae_init(&stream, &config, memory, sizeof memory) != XMAE_OK) Serial.println("no start");
  next_us = micros();
}

static void show() {
  Serial.print(result.rate / 100.0, 2);  // 0: none is sure
  Serial.print(" bpm, beats: ");
  Serial.println(result.n_beats);
}

void loop() {
  if ((int32_t)(micros() - next_us) < 0) return;
  next_us += 1000000 / RATE_HZ;
  int32_t code = analogRead(A0);
  xmae_push(&stream, &code, 1, 0);
  if (xmae_read(&stream, &result) == XMAE_OK) show();
}
