/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* Networks of any layers that libxmae may hold, on any samples: a second at a time gives what plain
 * sums over the whole signal give. Memory is exactly what the plan says. */
#include "fuzz.h"

#include <string.h>

#include "xmae_internal.h"

#define MOST_LAYERS 4u
#define CHUNKS 3u
#define MOST_TAPS 9u
#define MOST_CHANNELS 12u
#define COLUMNS ((CHUNKS + XMAE_SILENCE) * XMAE_CHUNK + 64u)

typedef struct {
  int8_t weights[MOST_CHANNELS * MOST_CHANNELS * MOST_TAPS]; /* [out][tap][in], or [channel][tap] */
  int8_t *packed;
  int32_t bias[MOST_CHANNELS];
  int32_t multiplier[MOST_CHANNELS];
  int8_t shift[MOST_CHANNELS];
} plain_t;

static xmae_layer_t layers[MOST_LAYERS];
static plain_t plain[MOST_LAYERS];
/* all columns of a layer's input, then of its output */
static int8_t signals[2][COLUMNS][MOST_CHANNELS];

static uint32_t aligned(uint32_t bytes) { return (bytes + 7u) / 8u * 8u; }

/* Weights as the kernels want them, at exactly the size that they may read. */
static void pack(xmae_layer_t *layer, plain_t *p) {
  xmae_conv_t *conv = &layer->conv;
  uint32_t taps = (uint32_t)conv->k_w, in = (uint32_t)conv->in_c, out = (uint32_t)conv->out_c;
  uint32_t k = taps * in, row = (k + 7u) / 8u * 8u;
  uint32_t bytes = layer->depthwise ? (out + 3u) / 4u * 4u * taps : (out + 1u) / 2u * 2u * row;
  p->packed = exactly(bytes);
  memset(p->packed, 0, bytes);
  for (uint32_t c = 0; c < out; c++)
    for (uint32_t i = 0; i < (layer->depthwise ? taps : k); i++)
      if (layer->depthwise)
        p->packed[c / 4 * 4 * taps + i * 4 + c % 4] = p->weights[c * taps + i];
      else
        p->packed[c / 2 * row * 2 + i * 2 + c % 2] = p->weights[c * k + i];
  conv->weights = p->packed, conv->bias = p->bias;
  conv->multiplier = p->multiplier, conv->shift = p->shift;
}

/* A layer that leaves `*columns` / stride columns of a chunk. */
static void make_layer(input_t *in, uint32_t i, uint32_t stride, uint32_t out, uint32_t *columns,
                       uint32_t *channels) {
  xmae_layer_t *layer = &layers[i];
  plain_t *p = &plain[i];
  uint32_t taps = take_from(in, stride, MOST_TAPS), n;
  layer->depthwise = (uint16_t)(out == *channels && take8(in) & 1);
  layer->keep = (uint16_t)(taps - stride);
  layer->conv = (xmae_conv_t){.in_h = 1, .out_h = 1, .k_h = 1, .stride_h = 1};
  layer->conv.in_w = (int16_t)(layer->keep + *columns), layer->conv.in_c = (int16_t)*channels;
  layer->conv.out_w = (int16_t)(*columns / stride), layer->conv.out_c = (int16_t)out;
  layer->conv.k_w = (int16_t)taps, layer->conv.stride_w = (int16_t)stride;
  layer->conv.in_zero = (int8_t)(i ? layers[i - 1].conv.out_zero : 0);
  layer->conv.out_zero = (int8_t)take8(in);
  layer->conv.out_min = take8(in) & 1 ? layer->conv.out_zero : -128, layer->conv.out_max = 127;
  n = layer->depthwise ? out * taps : out * taps * *channels;
  uint32_t seed = take32(in), extreme = take8(in) & 1;
  for (uint32_t k = 0; k < n; k++) {
    seed = seed * 1664525u + 1013904223u;
    p->weights[k] = extreme ? (int8_t)(seed >> 31 ? 127 : -127) : (int8_t)(seed >> 24);
  }
  for (uint32_t c = 0; c < out; c++) {
    p->bias[c] = (int32_t)take32(in) >> 6;
    p->multiplier[c] = (int32_t)(take32(in) >> 2 | 0x40000000u);
    p->shift[c] = (int8_t)(4 - (int32_t)take8(in) % 20);
  }
  pack(layer, p);
  *columns /= stride, *channels = out;
}

/* One layer over a whole signal, by the definition; returns the number of columns. */
static uint32_t whole(uint32_t i, uint32_t columns) {
  const xmae_conv_t *conv = &layers[i].conv;
  uint32_t taps = (uint32_t)conv->k_w, n_in = (uint32_t)conv->in_c, n = 0;
  memmove(signals[0][layers[i].keep], signals[0][0], columns * sizeof signals[0][0]);
  memset(signals[0][0], conv->in_zero, layers[i].keep * sizeof signals[0][0]);
  columns += layers[i].keep;
  for (uint32_t at = 0; at + taps <= columns; at += (uint32_t)conv->stride_w, n++)
    for (uint32_t c = 0; c < (uint32_t)conv->out_c; c++) {
      int64_t sum = plain[i].bias[c];
      for (uint32_t t = 0; t < taps; t++)
        for (uint32_t k = 0; k < n_in; k++)
          if (!layers[i].depthwise)
            sum += signals[0][at + t][k] * plain[i].weights[(c * taps + t) * n_in + k];
          else if (k == c)
            sum += signals[0][at + t][k] * plain[i].weights[c * taps + t];
      int32_t shift = plain[i].shift[c], right = shift < 0 ? -shift : 0;
      int64_t high = sum * (shift > 0 ? 1 << shift : 1) * plain[i].multiplier[c];
      high = (high + ((int64_t)1 << 30)) >> 31;
      if (right) high = (high + ((int64_t)1 << (right - 1)) - (high < 0)) >> right;
      high += conv->out_zero;
      high = high < conv->out_min ? conv->out_min : high > conv->out_max ? conv->out_max : high;
      signals[1][n][c] = (int8_t)high;
    }
  memcpy(signals[0], signals[1], n * sizeof signals[0][0]);
  return n;
}

static struct xmae_model plan(uint32_t n) {
  struct xmae_model model = {.n_layers = (uint16_t)n, .layers = layers};
  uint32_t total = 0, scratch = 0;
  for (uint32_t i = 0; i < n; i++) {
    const xmae_conv_t *conv = &layers[i].conv;
    layers[i].input = total;
    if (i) layers[i - 1].output = total + layers[i].keep * (uint32_t)conv->in_c;
    total += aligned((uint32_t)conv->in_w * (uint32_t)conv->in_c);
    uint32_t needs = (uint32_t)XMAE_CONV_SCRATCH(conv->k_w * conv->in_c);
    if (layers[i].depthwise) needs = (uint32_t)XMAE_DEPTHWISE_SCRATCH(conv->k_w, conv->in_c);
    if (needs > scratch) scratch = needs;
  }
  layers[n - 1].output = model.map = total;
  model.scratch = total + aligned(XMAE_OUTPUTS * XMAE_MAP_CHANNELS);
  model.memory_bytes = model.scratch + scratch;
  return model;
}

static void run(input_t *in, const struct xmae_model *model, int8_t *memory) {
  static int8_t maps[CHUNKS][XMAE_OUTPUTS * XMAE_MAP_CHANNELS], samples[CHUNKS * XMAE_CHUNK];
  for (uint32_t i = 0; i < sizeof samples; i++) samples[i] = (int8_t)take8(in);
  xmae_network_reset(model, memory);
  for (uint32_t chunk = 0; chunk < CHUNKS; chunk++) {
    memcpy(xmae_network_input(model, memory), samples + chunk * XMAE_CHUNK, XMAE_CHUNK);
    memcpy(maps[chunk], xmae_network_run(model, memory), sizeof maps[0]);
  }
  uint32_t columns = (XMAE_SILENCE + CHUNKS) * XMAE_CHUNK;
  memset(signals, 0, sizeof signals);
  for (uint32_t i = 0; i < sizeof samples; i++)
    signals[0][XMAE_SILENCE * XMAE_CHUNK + i][0] = samples[i];
  for (uint32_t i = 0; i < model->n_layers; i++) columns = whole(i, columns);
  REQUIRE(columns == (XMAE_SILENCE + CHUNKS) * XMAE_OUTPUTS);
  for (uint32_t i = 0; i < CHUNKS * XMAE_OUTPUTS; i++)
    for (uint32_t c = 0; c < XMAE_MAP_CHANNELS; c++)
      REQUIRE(maps[i / XMAE_OUTPUTS][i % XMAE_OUTPUTS * XMAE_MAP_CHANNELS + c] ==
              signals[0][XMAE_SILENCE * XMAE_OUTPUTS + i][c]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  input_t in = {data, data + bytes};
  uint32_t n = take_from(&in, 2, MOST_LAYERS), first = take8(&in) % n;
  uint32_t again = take8(&in) % n, columns = XMAE_CHUNK, channels = 1;
  for (uint32_t i = 0; i < n; i++) { /* 100 columns become 25: by 4 at once, or by 2 twice */
    uint32_t stride = (i == first ? 2u : 1u) * (i == again ? 2u : 1u);
    uint32_t out = take_from(&in, 1, MOST_CHANNELS);
    if (take8(&in) & 1) out = channels;
    make_layer(&in, i, stride, i + 1 == n ? XMAE_MAP_CHANNELS : out, &columns, &channels);
  }
  struct xmae_model model = plan(n);
  int8_t *memory = exactly(model.memory_bytes);
  memset(memory, 0x5A, model.memory_bytes);
  run(&in, &model, memory);
  free(memory);
  for (uint32_t i = 0; i < n; i++) free(plain[i].packed);
  return 0;
}
