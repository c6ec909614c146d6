/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The last 10 s, their embedding, and what heads make of it; see export/targets/c/window.py, step
 * by step. */
#include "xmae_internal.h"

#include <string.h>

#define FINEST 65536 /* a window's range is at most so large before it is scaled */

void xmae_scale_window(const xmae_model_t *model, const int32_t *ring, uint32_t newest,
                       int8_t *window) {
  int32_t low = ring[0], high = ring[0];
  for (uint32_t i = 1; i < XMAE_WINDOW; i++) {
    if (ring[i] < low) low = ring[i];
    if (ring[i] > high) high = ring[i];
  }
  int64_t range = (int64_t)high - low;
  uint32_t shift = 0;
  while (range >> shift >= FINEST) shift++;
  int32_t size = (int32_t)(range >> shift);
  int64_t factor = size ? (model->steps_per_one << 16) / (uint32_t)size : 0;
  for (uint32_t i = 0; i < XMAE_WINDOW; i++) {
    uint32_t place = newest + i < XMAE_WINDOW ? newest + i : newest + i - XMAE_WINDOW;
    int32_t above = (int32_t)(((int64_t)ring[place] - low) >> shift);
    int32_t step = (int32_t)(((2 * above - size) * factor + (1 << 23)) >> 24);
    window[i] = (int8_t)xmae_clamp(step + model->input_zero, -128, 127);
  }
}

static void run_step(const xmae_step_t *step, int8_t *memory) {
  const int8_t *input = memory + step->input, *second = memory + step->second;
  int8_t *output = memory + step->output;
  void *scratch = memory + step->scratch;
  switch (step->kind) {
    case XMAE_STEP_CONV:
      xmae_conv((const xmae_conv_t *)step->layer, input, output, scratch);
      break;
    case XMAE_STEP_DEPTHWISE:
      xmae_depthwise((const xmae_conv_t *)step->layer, input, output, scratch);
      break;
    case XMAE_STEP_ADD:
      xmae_add((const xmae_add_t *)step->layer, input, second, output);
      break;
    case XMAE_STEP_MEAN:
      xmae_mean((const xmae_mean_t *)step->layer, input, output);
      break;
    case XMAE_STEP_AVERAGE_POOL:
      xmae_average_pool((const xmae_pool_t *)step->layer, input, output);
      break;
    case XMAE_STEP_PAD:
      xmae_pad((const xmae_pad_t *)step->layer, input, output);
      break;
    case XMAE_STEP_CONCATENATE:
      xmae_concatenate((const xmae_concatenate_t *)step->layer, input, second, output);
      break;
    case XMAE_STEP_REQUANTIZE:
      xmae_requantize((const xmae_requantize_t *)step->layer, input, output);
      break;
    default:
      break;
  }
}

const int8_t *xmae_steps_run(const xmae_model_t *model, int8_t *memory) {
  for (uint32_t i = 0; i < model->n_steps; i++) run_step(&model->steps[i], memory);
  return memory + model->embedding;
}
