/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* Int8 kernels after TensorFlow Lite's quantization specification, bit-exact with TensorFlow Lite
 * Micro.
 *
 * Tensors are int8 in NHWC order with N = 1. Everything that depends on weights only is done at
 * export time: bias carries -input_zero_point * sum(weights), so that a kernel multiplies raw
 * codes; padding reads as the zero point.
 *
 * Weights of convolutions and fully connected layers: [out_c / 2][K][2], K = k_h * k_w * in_c
 * rounded up to 8, where the last index is the output channel within a pair, and what was rounded
 * up is zero. One SXTB16 of a word gives two inputs of one output (Armv7E-M), one VLD2 gives
 * sixteen (Helium). Their bias is rounded up to pairs too. Weights of depthwise convolutions:
 * [channels / 4][k_h * k_w][4], rounded up with zeros.
 *
 * C99, no heap, no recursion, static memory only; scratch is given by the caller. */
#ifndef XMAE_KERNELS_H
#define XMAE_KERNELS_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const int8_t *weights;
  /* per output channel; the real multiplier is multiplier * 2^(shift - 31) */
  const int32_t *bias, *multiplier;
  const int8_t *shift;
  /* pad: above, left */
  int16_t in_h, in_w, in_c, out_h, out_w, out_c, k_h, k_w, stride_h, stride_w, pad_h, pad_w;
  int16_t in_zero, out_zero, out_min, out_max;
} xmae_conv_t; /* in a depthwise convolution in_c == out_c */

typedef struct {
  int32_t size, multiplier1, multiplier2, multiplier_out;
  int16_t shift1, shift2, shift_out, zero1, zero2, out_zero, out_min, out_max;
} xmae_add_t;

typedef struct {
  int32_t positions, channels, multiplier, shift, in_zero, out_zero;
} xmae_mean_t;

typedef struct {
  int16_t in_h, in_w, channels, out_h, out_w, k_h, k_w, stride_h, stride_w, pad_h, pad_w, out_min,
      out_max;
} xmae_pool_t;

typedef struct {
  int16_t in_h, in_w, in_c, out_h, out_w, out_c, top, left, front, value;
} xmae_pad_t;

typedef struct {
  int32_t size1, size2;
} xmae_concatenate_t;

typedef struct {
  int32_t size, multiplier;
  int16_t shift, in_zero, out_zero;
} xmae_requantize_t;

/* Each has a plain version and, where the core has the instructions, a fast one with the same
 * output. `scratch`: 4-byte aligned; XMAE_CONV_SCRATCH or XMAE_DEPTHWISE_SCRATCH bytes. */
#define XMAE_CONV_SCRATCH(k) (12 * (((k) + 15) / 16 * 16))
#define XMAE_DEPTHWISE_SCRATCH(taps, channels) ((taps) * ((channels) + 12) / 4 * 4 + 84)
void xmae_conv(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch);
void xmae_depthwise(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch);
void xmae_add(const xmae_add_t *layer, const int8_t *input1, const int8_t *input2, int8_t *output);
void xmae_conv_plain(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch);
void xmae_depthwise_plain(const xmae_conv_t *layer, const int8_t *input, int8_t *output,
                          void *scratch);
void xmae_add_plain(const xmae_add_t *layer, const int8_t *input1, const int8_t *input2,
                    int8_t *output);

/* Plain C for every core: together below 1 % of the time of the networks at hand. */
void xmae_mean(const xmae_mean_t *layer, const int8_t *input, int8_t *output);
void xmae_average_pool(const xmae_pool_t *layer, const int8_t *input, int8_t *output);
void xmae_pad(const xmae_pad_t *layer, const int8_t *input, int8_t *output);
void xmae_concatenate(const xmae_concatenate_t *layer, const int8_t *input1, const int8_t *input2,
                      int8_t *output);
void xmae_requantize(const xmae_requantize_t *layer, const int8_t *input, int8_t *output);
/* IEEE 802.3, as zlib's crc32; starts at 0 */
uint32_t xmae_crc32(uint32_t crc, const void *data, uint32_t bytes);

/* x * multiplier * 2^(shift - 31), rounded as TensorFlow Lite does: the product's high half to
 * nearest (ties up), then the remaining right shift to nearest (ties away from zero). */
static inline int32_t xmae_rescale(int32_t x, int32_t multiplier, int32_t shift) {
  int32_t left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
  int64_t product = (int64_t)(x * ((int32_t)1 << left)) * multiplier;
  int32_t high = (int32_t)((product + ((int64_t)1 << 30)) >> 31);
  int32_t half = (int32_t)(((uint32_t)1 << right) >> 1);
  return right ? (int32_t)(((int64_t)high + half - (high < 0)) >> right) : high;
}

static inline int32_t xmae_clamp(int32_t x, int32_t low, int32_t high) {
  return x < low ? low : x > high ? high : x;
}

/* The k_h x k_w x in_c window of an output position as one row of bytes: the place in the input
 * itself where that is one stretch, or a copy with padding in `row` (`bytes` long, zeros after the
 * window). */
const int8_t *xmae_window(const xmae_conv_t *layer, const int8_t *input, int position, int8_t *row,
                          int bytes);

/* The windows of four positions from `position` on, `bytes` apart in `copies` where copied; past
 * the end: the last one. */
void xmae_windows(const xmae_conv_t *layer, const int8_t *input, int position, int8_t *copies,
                  int bytes, const int8_t *rows[4]);

/* One window for four channels from `input` on: one word per tap. */
void xmae_window4(const xmae_conv_t *layer, const int8_t *input, int position, uint32_t *row);

/* Positions [first, last) whose window of one row, `taps` wide, lies inside the input; none: first
 * = last = positions. */
void xmae_inside(const xmae_conv_t *layer, int taps, int *first, int *last);

/* four bytes, aligned or not: one LDR on these cores */
static inline uint32_t xmae_word(const void *p) {
  uint32_t value;
  __builtin_memcpy(&value, p, 4);
  return value;
}

#if !defined(XMAE_PLAIN) && defined(__ARM_FEATURE_MVE)
#define XMAE_MVE 1
#elif !defined(XMAE_PLAIN) && defined(__ARM_FEATURE_DSP)
#define XMAE_DSP 1
#endif

#ifdef __cplusplus
}
#endif
#endif
