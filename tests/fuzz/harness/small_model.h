/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* A model of three layers that takes no time, so that fuzzing spends its own on the calls around
 * it: convolution 1 -> 4 (4 taps, stride 2), depthwise (5 taps), convolution 4 -> 3 (4 taps, stride
 * 2). Its map swings with the signal, so that beats come; it knows nothing. */
#ifndef XMAE_SMALL_MODEL_H
#define XMAE_SMALL_MODEL_H

#include "xmae_internal.h"

#define ONE 1073741824 /* a multiplier of 1 at a shift of 1 */

static const int8_t small_weights_0[2 * 8 * 2] = {1,        -2, 2, -1, -1, 2, -2, 1,
                                                  [16] = 2, 1,  1, 1,  1,  1, 2,  1};
static const int8_t small_weights_1[5 * 4] = {1,  1, 2, 1, 1, 0, 1, 1,  2, 1,
                                              -2, 1, 1, 0, 1, 1, 1, -1, 2, 1};
static const int8_t small_weights_2[2 * 16 * 2] = {
    3, 1,  1, 2, -1, 3, 2,  -3, -3, 2, 1, 1,  -2, -3, 3,        -1,        2,        3,        -1,
    1, -3, 1, 1, -2, 3, -2, -1, 3,  1, 1, -2, 2,  1,  [34] = 1, [40] = -1, [50] = 1, [56] = -1};
static const int32_t small_bias[4] = {0, 3, -5, 0};
static const int32_t small_multiplier[4] = {ONE, ONE, ONE, ONE};
static const int8_t small_shift[4] = {0, 0, 0, 0};
static uint16_t small_interval[511], small_half_width[16];

#define SMALL_CONSTANTS(i)                                                                         \
  .weights = small_weights_##i, .bias = small_bias, .multiplier = small_multiplier,                \
  .shift = small_shift
#define SMALL_ENDS .in_h = 1, .out_h = 1, .k_h = 1, .stride_h = 1, .out_min = -128, .out_max = 127

static const xmae_layer_t small_layers[3] = {
    {.conv = {SMALL_CONSTANTS(0), SMALL_ENDS, .in_w = 102, .in_c = 1, .out_w = 50, .out_c = 4,
              .k_w = 4, .stride_w = 2},
     .input = 0,
     .output = 104 + 16,
     .keep = 2},
    {.conv = {SMALL_CONSTANTS(1), SMALL_ENDS, .in_w = 54, .in_c = 4, .out_w = 50, .out_c = 4,
              .k_w = 5, .stride_w = 1},
     .input = 104,
     .output = 320 + 8,
     .keep = 4,
     .depthwise = 1},
    {.conv = {SMALL_CONSTANTS(2), SMALL_ENDS, .in_w = 52, .in_c = 4, .out_w = 25, .out_c = 3,
              .k_w = 4, .stride_w = 2},
     .input = 320,
     .output = 528,
     .keep = 2},
};

/* Over a window: its mean in each quarter of four samples, by two steps. */
static const xmae_requantize_t small_same = {1000, ONE, 0, 0, 0};
static const xmae_mean_t small_mean = {250, 4, ONE, -6, 0, 0};
static const xmae_step_t small_steps[2] = {{XMAE_STEP_REQUANTIZE, &small_same, 0, 0, 1000, 0},
                                           {XMAE_STEP_MEAN, &small_mean, 1000, 0, 2000, 0}};
static const int32_t small_head_weights[4] = {1000, -2000, 2147483647, 5};
static const xmae_head_t small_heads[1] = {{"any (units)", small_head_weights, 12345, 3}};

static const struct xmae_model small_model = {
    .magic = XMAE_MODEL_MAGIC,
    .version = XMAE_MODEL_VERSION,
    .n_layers = 3,
    .layers = small_layers,
    .interval = small_interval,
    .half_width = small_half_width,
    .memory_bytes = 800 + 4000,
    .map = 528,
    .scratch = 608,
    .window = 800,
    .map_zero = -3,
    .unit = 90,
    .look_ahead = 42,
    .least = 40,
    .steps = small_steps,
    .n_steps = 2,
    .heads = small_heads,
    .n_heads = 1,
    .embedding_size = 4,
    .embed_bytes = 2004,
    .source = 0,
    .embedding = 2000,
    .steps_per_one = 32640,
    .engine = &xmae_network_engine,
};

#endif
