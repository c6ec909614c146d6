/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* CMSIS-NN instead of this package's convolutions: bring Arm's library
 * (github.com/ARM-software/CMSIS-NN, Apache-2.0; tried with 4.0.0), put its Include folder on the
 * include path, and compile student_int8_cmsis_nn.c in place of student_int8.c. Fully connected
 * layers are 1 x 1 convolutions to it; ADD, MEAN and the rest stay this package's.
 *
 * Weights are as CMSIS-NN wants them: [out_c][k_h][k_w][in_c], of depthwise convolutions
 * [k_h][k_w][channels]; biases are the model's own. The arena that the C source plans has room for
 * CMSIS-NN's buffers; a release that asks for more stops at once. */
#ifndef XMAE_CMSIS_NN_H
#define XMAE_CMSIS_NN_H
#include "arm_nnfunctions.h"
#include "xmae_kernels.h"

typedef struct {
  const int8_t *weights;
  const int32_t *bias, *multiplier, *shift; /* per output channel */
  int16_t in_h, in_w, in_c, out_h, out_w, out_c, k_h, k_w, stride_h, stride_w, pad_h, pad_w;
  int16_t in_zero, out_zero, out_min, out_max;
  int32_t scratch; /* bytes */
} xmae_cmsis_conv_t;

#define XMAE_CMSIS_COMMON(layer)                                                                   \
  const cmsis_nn_dims in = {1, layer->in_h, layer->in_w, layer->in_c};                             \
  const cmsis_nn_dims out = {1, layer->out_h, layer->out_w, layer->out_c},                         \
                      bias = {1, 1, 1, layer->out_c};                                              \
  const cmsis_nn_tile stride = {layer->stride_w, layer->stride_h},                                 \
                      pad = {layer->pad_w, layer->pad_h}, one = {1, 1};                            \
  const cmsis_nn_activation limits = {layer->out_min, layer->out_max};                             \
  /* its struct is not const, its functions only read */                                           \
  const cmsis_nn_per_channel_quant_params quant = {(int32_t *)layer->multiplier,                   \
                                                   (int32_t *)layer->shift};                       \
  const cmsis_nn_context context = {scratch, layer->scratch};

static inline void xmae_cmsis_conv(const xmae_cmsis_conv_t *layer, const int8_t *input,
                                   int8_t *output, void *scratch) {
  XMAE_CMSIS_COMMON(layer)
  const cmsis_nn_dims filter = {layer->out_c, layer->k_h, layer->k_w, layer->in_c};
  const cmsis_nn_conv_params params = {-layer->in_zero, layer->out_zero, stride, pad, one, limits};
  if (arm_convolve_wrapper_s8_get_buffer_size(&params, &in, &filter, &out) > layer->scratch ||
      arm_convolve_wrapper_s8(&context, &params, &quant, &in, input, &filter, layer->weights, &bias,
                              layer->bias, &out, output) != ARM_CMSIS_NN_SUCCESS)
    __builtin_trap();
}

static inline void xmae_cmsis_depthwise(const xmae_cmsis_conv_t *layer, const int8_t *input,
                                        int8_t *output, void *scratch) {
  XMAE_CMSIS_COMMON(layer)
  const cmsis_nn_dims filter = {1, layer->k_h, layer->k_w, layer->out_c};
  const cmsis_nn_dw_conv_params params = {-layer->in_zero, layer->out_zero, 1, stride, pad, one,
                                          limits};
  if (arm_depthwise_conv_wrapper_s8_get_buffer_size(&params, &in, &filter, &out) > layer->scratch ||
      arm_depthwise_conv_wrapper_s8(&context, &params, &quant, &in, input, &filter, layer->weights,
                                    &bias, layer->bias, &out, output) != ARM_CMSIS_NN_SUCCESS)
    __builtin_trap();
}
#endif
