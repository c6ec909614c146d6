/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The int8 network over a chunk of a second: every layer keeps the columns that its kernel still
 * needs. */
#include "xmae_internal.h"

#include <string.h>

int8_t *xmae_network_input(const xmae_model_t *model, int8_t *memory) {
  const xmae_layer_t *first = model->layers;
  return memory + first->input + (size_t)first->keep * (size_t)first->conv.in_c;
}

const int8_t *xmae_network_run(const xmae_model_t *model, int8_t *memory) {
  for (uint32_t i = 0; i < model->n_layers; i++) {
    const xmae_layer_t *layer = &model->layers[i];
    int8_t *input = memory + layer->input, *output = memory + layer->output;
    void *scratch = memory + model->scratch;
    if (layer->depthwise)
      xmae_depthwise(&layer->conv, input, output, scratch);
    else
      xmae_conv(&layer->conv, input, output, scratch);
    size_t column = (size_t)layer->conv.in_c, used = (size_t)layer->conv.in_w - layer->keep;
    if (layer->keep) memmove(input, input + used * column, layer->keep * column);
  }
  return memory + model->map;
}

const xmae_engine_t xmae_network_engine = {xmae_network_input, xmae_network_reset,
                                           xmae_network_run};

void xmae_network_reset(const xmae_model_t *model, int8_t *memory) {
  if (!model->n_layers) return;
  for (uint32_t i = 0; i < model->n_layers; i++) {
    const xmae_layer_t *layer = &model->layers[i];
    memset(memory + layer->input, layer->conv.in_zero,
           (size_t)layer->keep * (size_t)layer->conv.in_c);
  }
  for (int i = 0; i < XMAE_SILENCE; i++) {
    memset(xmae_network_input(model, memory), model->input_zero,
           (size_t)XMAE_CHUNK * (size_t)model->layers->conv.in_c);
    (void)xmae_network_run(model, memory);
  }
}
