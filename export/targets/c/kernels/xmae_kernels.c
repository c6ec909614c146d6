/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The plain kernels: what the fast ones must equal, and what runs on a core without SMLAD or
 * Helium. */
#include "xmae_kernels.h"

#include <string.h>

const int8_t *xmae_window(const xmae_conv_t *layer, const int8_t *input, int position, int8_t *row,
                          int bytes) {
  int y0 = position / layer->out_w * layer->stride_h - layer->pad_h;
  int x0 = position % layer->out_w * layer->stride_w - layer->pad_w;
  int width = layer->k_w * layer->in_c, used = layer->k_h * width;
  if (layer->k_h == 1 && bytes == used && y0 >= 0 && y0 < layer->in_h && x0 >= 0 &&
      x0 + layer->k_w <= layer->in_w)
    return input + (intptr_t)(y0 * layer->in_w + x0) * layer->in_c;
  memset(row, layer->in_zero, (uint32_t)used);
  memset(row + used, 0, (uint32_t)(bytes - used));
  int first = x0 < 0 ? -x0 : 0,
      last = x0 + layer->k_w > layer->in_w ? layer->in_w - x0 : layer->k_w;
  for (int i = 0; i < layer->k_h && first < last; i++) {
    int y = y0 + i;
    if (y >= 0 && y < layer->in_h)
      memcpy(row + (intptr_t)i * width + (intptr_t)first * layer->in_c,
             input + (intptr_t)(y * layer->in_w + x0 + first) * layer->in_c,
             (uint32_t)((last - first) * layer->in_c));
  }
  return row;
}

void xmae_windows(const xmae_conv_t *layer, const int8_t *input, int position, int8_t *copies,
                  int bytes, const int8_t *rows[4]) {
  int x0 = position * layer->stride_w - layer->pad_w, last = layer->out_h * layer->out_w - 1;
  if (layer->in_h == 1 && layer->k_h == 1 && layer->k_w * layer->in_c == bytes &&
      position + 3 <= last && x0 >= 0 && x0 + 3 * layer->stride_w + layer->k_w <= layer->in_w) {
    rows[0] = input + (intptr_t)x0 * layer->in_c;
    for (int i = 1; i < 4; i++) rows[i] = rows[i - 1] + (intptr_t)layer->stride_w * layer->in_c;
    return;
  }
  for (int i = 0; i < 4; i++) {
    int p = position + i < last ? position + i : last;
    rows[i] = xmae_window(layer, input, p, copies + (intptr_t)i * bytes, bytes);
  }
}

void xmae_window4(const xmae_conv_t *layer, const int8_t *input, int position, uint32_t *row) {
  int y0 = position / layer->out_w * layer->stride_h - layer->pad_h;
  int x0 = position % layer->out_w * layer->stride_w - layer->pad_w;
  uint32_t zero = (uint8_t)layer->in_zero * 0x01010101u;
  for (int y = y0; y < y0 + layer->k_h; y++)
    for (int x = x0; x < x0 + layer->k_w; x++) {
      int outside = y < 0 || y >= layer->in_h || x < 0 || x >= layer->in_w;
      *row++ = outside ? zero : xmae_word(input + (intptr_t)(y * layer->in_w + x) * layer->in_c);
    }
}

void xmae_inside(const xmae_conv_t *layer, int taps, int *first, int *last) {
  int positions = layer->out_h * layer->out_w, room = layer->in_w + layer->pad_w - taps;
  *first = (layer->pad_w + layer->stride_w - 1) / layer->stride_w;
  *last = room < 0 ? 0 : room / layer->stride_w + 1;
  if (*last > positions) *last = positions;
  if (layer->in_h > 1 || layer->k_h > 1 || *first >= *last) *first = *last = positions;
}

void xmae_conv_plain(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch) {
  int k = layer->k_h * layer->k_w * layer->in_c, stride = (k + 7) / 8 * 16;
  for (int p = 0; p < layer->out_h * layer->out_w; p++) {
    const int8_t *row = xmae_window(layer, input, p, (int8_t *)scratch, k);
    for (int c = 0; c < layer->out_c; c++) {
      const int8_t *w = layer->weights + (intptr_t)(c / 2) * stride + c % 2;
      int32_t acc = layer->bias[c];
      for (int i = 0; i < k; i++) acc += row[i] * w[(intptr_t)2 * i];
      acc = xmae_rescale(acc, layer->multiplier[c], layer->shift[c]) + layer->out_zero;
      *output++ = (int8_t)xmae_clamp(acc, layer->out_min, layer->out_max);
    }
  }
}

void xmae_depthwise_plain(const xmae_conv_t *layer, const int8_t *input, int8_t *output,
                          void *scratch) {
  int taps = layer->k_h * layer->k_w;
  for (int p = 0; p < layer->out_h * layer->out_w; p++) {
    const int8_t *row = xmae_window(layer, input, p, (int8_t *)scratch, taps * layer->in_c);
    for (int c = 0; c < layer->out_c; c++) {
      const int8_t *w = layer->weights + (intptr_t)(c / 4 * 4) * taps + c % 4;
      int32_t acc = layer->bias[c];
      for (int i = 0; i < taps; i++) acc += row[i * layer->in_c + c] * w[(intptr_t)4 * i];
      acc = xmae_rescale(acc, layer->multiplier[c], layer->shift[c]) + layer->out_zero;
      *output++ = (int8_t)xmae_clamp(acc, layer->out_min, layer->out_max);
    }
  }
}

void xmae_add_plain(const xmae_add_t *layer, const int8_t *input1, const int8_t *input2,
                    int8_t *output) {
  for (int32_t i = 0; i < layer->size; i++) {
    int32_t a =
        xmae_rescale((input1[i] - layer->zero1) * (1 << 20), layer->multiplier1, layer->shift1);
    int32_t b =
        xmae_rescale((input2[i] - layer->zero2) * (1 << 20), layer->multiplier2, layer->shift2);
    int32_t sum = xmae_rescale(a + b, layer->multiplier_out, layer->shift_out) + layer->out_zero;
    output[i] = (int8_t)xmae_clamp(sum, layer->out_min, layer->out_max);
  }
}

#if !defined(XMAE_MVE) && !defined(XMAE_DSP)
void xmae_conv(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch) {
  xmae_conv_plain(layer, input, output, scratch);
}
void xmae_depthwise(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch) {
  xmae_depthwise_plain(layer, input, output, scratch);
}
void xmae_add(const xmae_add_t *layer, const int8_t *input1, const int8_t *input2, int8_t *output) {
  xmae_add_plain(layer, input1, input2, output);
}
#endif

void xmae_mean(const xmae_mean_t *layer, const int8_t *input, int8_t *output) {
  for (int32_t c = 0; c < layer->channels; c++) {
    int32_t sum = -layer->in_zero * layer->positions;
    for (int32_t p = 0; p < layer->positions; p++) sum += input[p * layer->channels + c];
    sum = xmae_rescale(sum, layer->multiplier, layer->shift) + layer->out_zero;
    output[c] = (int8_t)xmae_clamp(sum, -128, 127);
  }
}

void xmae_average_pool(const xmae_pool_t *layer, const int8_t *input, int8_t *output) {
  for (int y = 0; y < layer->out_h; y++)
    for (int x = 0; x < layer->out_w; x++)
      for (int c = 0; c < layer->channels; c++) {
        int32_t sum = 0, count = 0;
        for (int i = 0; i < layer->k_h; i++)
          for (int j = 0; j < layer->k_w; j++) {
            int row = y * layer->stride_h - layer->pad_h + i,
                column = x * layer->stride_w - layer->pad_w + j;
            if (row < 0 || row >= layer->in_h || column < 0 || column >= layer->in_w) continue;
            sum += input[(row * layer->in_w + column) * layer->channels + c];
            count++;
          }
        if (count) sum = (sum + (sum > 0 ? count / 2 : -(count / 2))) / count;
        *output++ = (int8_t)xmae_clamp(sum, layer->out_min, layer->out_max);
      }
}

void xmae_pad(const xmae_pad_t *layer, const int8_t *input, int8_t *output) {
  memset(output, layer->value, (uint32_t)(layer->out_h * layer->out_w * layer->out_c));
  for (int y = 0; y < layer->in_h; y++)
    for (int x = 0; x < layer->in_w; x++)
      memcpy(output + (intptr_t)((y + layer->top) * layer->out_w + x + layer->left) * layer->out_c +
                 layer->front,
             input + (intptr_t)(y * layer->in_w + x) * layer->in_c, (size_t)layer->in_c);
}

void xmae_concatenate(const xmae_concatenate_t *layer, const int8_t *input1, const int8_t *input2,
                      int8_t *output) {
  memcpy(output, input1, (uint32_t)layer->size1);
  memcpy(output + layer->size1, input2, (uint32_t)layer->size2);
}

void xmae_requantize(const xmae_requantize_t *layer, const int8_t *input, int8_t *output) {
  for (int32_t i = 0; i < layer->size; i++) {
    int32_t code =
        xmae_rescale(input[i] - layer->in_zero, layer->multiplier, layer->shift) + layer->out_zero;
    output[i] = (int8_t)xmae_clamp(code, -128, 127);
  }
}

uint32_t xmae_crc32(uint32_t crc, const void *data, uint32_t bytes) {
  static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
                                     0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                     0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                     0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
  const uint8_t *byte = (const uint8_t *)data;
  for (crc = ~crc; bytes; bytes--) {
    crc ^= *byte++;
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  return ~crc;
}
