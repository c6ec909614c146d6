/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* A model of three layers that takes no time, so that fuzzing spends its own on the calls around it:
 * convolution 1 -> 4 (4 taps, stride 2), depthwise (5 taps), convolution 4 -> 3 (4 taps, stride 2).
 * Its map swings with the signal, so that beats come; it knows nothing. */
#ifndef XMAE_SMALL_MODEL_H
#define XMAE_SMALL_MODEL_H

#include "xmae_internal.h"

#define ONE 1073741824 /* a multiplier of 1 at a shift of 1 */

static const int8_t small_weights_0[2 * 8 * 2] = {1, -2, 2, -1, -1, 2, -2, 1, [16] = 2, 1, 1, 1, 1, 1, 2, 1};
static const int8_t small_weights_1[5 * 4] = {1, 1, 2, 1, 1, 0, 1, 1, 2, 1, -2, 1, 1, 0, 1, 1, 1, -1, 2, 1};
static const int8_t small_weights_2[2 * 16 * 2] = {3, 1, 1, 2, -1, 3, 2, -3, -3, 2, 1, 1, -2, -3, 3, -1,
                                                   2, 3, -1, 1, -3, 1, 1, -2, 3, -2, -1, 3, 1, 1, -2, 2,
                                                   1, [34] = 1, [40] = -1, [50] = 1, [56] = -1};
static const int32_t small_bias[4] = {0, 3, -5, 0};
static const int32_t small_multiplier[4] = {ONE, ONE, ONE, ONE};
static const int8_t small_shift[4] = {0, 0, 0, 0};
static uint16_t small_interval[511], small_half_width[16];

#define SMALL_CONSTANTS(i) \
  .weights = small_weights_##i, .bias = small_bias, .multiplier = small_multiplier, .shift = small_shift
#define SMALL_ENDS .in_h = 1, .out_h = 1, .k_h = 1, .stride_h = 1, .out_min = -128, .out_max = 127

static const xmae_layer_t small_layers[3] = {
    {.conv = {SMALL_CONSTANTS(0), SMALL_ENDS, .in_w = 102, .in_c = 1, .out_w = 50, .out_c = 4, .k_w = 4,
              .stride_w = 2},
     .input = 0, .output = 104 + 16, .keep = 2},
    {.conv = {SMALL_CONSTANTS(1), SMALL_ENDS, .in_w = 54, .in_c = 4, .out_w = 50, .out_c = 4, .k_w = 5,
              .stride_w = 1},
     .input = 104, .output = 320 + 8, .keep = 4, .depthwise = 1},
    {.conv = {SMALL_CONSTANTS(2), SMALL_ENDS, .in_w = 52, .in_c = 4, .out_w = 25, .out_c = 3, .k_w = 4,
              .stride_w = 2},
     .input = 320, .output = 528, .keep = 2},
};

static const struct xmae_model small_model = {
    .magic = XMAE_MODEL_MAGIC, .version = XMAE_MODEL_VERSION, .n_layers = 3, .layers = small_layers,
    .interval = small_interval, .half_width = small_half_width, .memory_bytes = 608 + 192, .map = 528,
    .scratch = 608, .map_zero = -3, .unit = 90, .least = 40, .engine = &xmae_network_engine,
};

#endif
