// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: the xMAE authors
// Embeds the shipped recording by TensorFlow Lite Micro, every ten seconds, with libxmae's front
// end. What it prints are codes of the embedding, and behind them of the timing map.
#include <cstring>

extern "C" {
#include "port.h"
}
#include "recording.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "xmae/xmae_model_@name@.h"
#include "xmae_tflm_@name@.h"

#define MODEL xmae_model_@name@
#define MODEL_BYTES XMAE_MODEL_@NAME@_BYTES
#define ARENA_BYTES XMAE_TFLM_@NAME@_ARENA_BYTES
#define OUTPUT_BYTES XMAE_TFLM_@NAME@_OUTPUT_BYTES
#define resolver_t xmae_tflm_@name@_resolver_t
#define add_operators xmae_tflm_@name@_operators

// The int8 file of the bundle: xxd -i < ../@int8@, aligned to 16 bytes.
extern const unsigned char model_file[];

static xmae_t stream;
static xmae_result_t result;
static uint32_t memory[MODEL_BYTES / 4 + 1];
alignas(16) static uint8_t arena[ARENA_BYTES];
static int8_t window[XMAE_WINDOW];

static void say_codes(const int8_t *codes, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    char text[6] = "     ";
    int value = codes[i] < 0 ? -codes[i] : codes[i];
    int at = 4;
    do text[--at] = static_cast<char>('0' + value % 10);
    while (value /= 10);
    if (codes[i] < 0) text[--at] = '-';
    text[4] = i + 1 < n ? ' ' : '\n';
    say(text + at);
  }
}

int main() {
  static const xmae_config_t config = {
      &MODEL, 1000u * XMAE_RECORDING_HZ, XMAE_RECORDING_BITS, 0, 1, 1, 0};
  static resolver_t resolver;
  if (add_operators(&resolver) != kTfLiteOk) return 1;
  static tflite::MicroInterpreter interpreter(tflite::GetModel(model_file), resolver, arena,
                                              sizeof arena);
  if (interpreter.AllocateTensors() != kTfLiteOk) return 2;
  if (xmae_init(&stream, &config, memory, sizeof memory) != XMAE_OK) return 3;
  uint32_t results = 0;
  for (uint32_t i = 0; i < XMAE_RECORDING_CODES; i++) {
    if (xmae_push(&stream, xmae_recording + i, 1, 0) != XMAE_OK) return 4;
    if (xmae_read(&stream, &result) != XMAE_OK || ++results % 10 != 0) continue;
    if (xmae_copy_window(&stream, window) != XMAE_OK) return 5;
    std::memcpy(interpreter.input(0)->data.int8, window, sizeof window);
    if (interpreter.Invoke() != kTfLiteOk) return 6;
    say_codes(interpreter.output(0)->data.int8, OUTPUT_BYTES);
  }
  return 0;
}
