/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The fast kernels of Armv8.1-M with Helium (Cortex-M55, M85): VMLADAV, sixteen products at once.
 *
 * A convolution takes blocks of four positions by two output channels: one VLD2 gives sixteen
 * weights of either output, and each of the four windows' vectors is used twice. Eight sums stay in
 * general registers. */
#include "xmae_kernels.h"

#ifdef XMAE_MVE
#include <arm_mve.h>
#include <string.h>

/* Sums to steps of the output, see xmae_rescale. VQRDMULH is the first rounding; VRSHL rounds ties
 * up, so where outputs below the zero point exist (`exact`), one is taken off what is negative
 * first. */
static inline int32x4_t steps(int32x4_t acc, int32_t multiplier, int32_t shift, int exact) {
  if (shift > 0) acc = vshlq_r_s32(acc, shift), shift = 0;
  int32x4_t high = vqrdmulhq_n_s32(acc, multiplier);
  if (exact && shift) high = vaddq_s32(high, vshrq_n_s32(high, 31));
  return vrshlq_n_s32(high, shift);
}

/* Two vectors of steps, in turn the even and odd lanes of the result, to codes. Sixteen bits are
 * enough for what is limited to eight afterwards. */
typedef struct {
  int16x8_t zero, low, high;
} limits_t;

static inline limits_t limits_of(const xmae_conv_t *layer) {
  limits_t l = {vdupq_n_s16(layer->out_zero), vdupq_n_s16(layer->out_min),
                vdupq_n_s16(layer->out_max)};
  return l;
}

static inline int16x8_t codes(int32x4_t even, int32x4_t odd, const limits_t *l) {
  int16x8_t y = vqmovntq_s32(vqmovnbq_s32(l->zero, even), odd);
  return vminq_s16(vmaxq_s16(vqaddq_s16(y, l->zero), l->low), l->high);
}

/* Sums of four positions for outputs a and b over `blocks` times sixteen inputs. VMLADAVA takes
 * even registers only: all eight are sums here, and the odd ones point. */
typedef struct {
  const int8_t *weights, *x[4];
  int32_t blocks, bias_a, bias_b, acc[8];
} block_t;

/* it is in r0 */
__attribute__((naked, noinline)) static void block(block_t *b __attribute__((unused))) {
  __asm__ volatile(
      "push {r0, r4-r11, lr}\n"
      "ldr r1, [r0]\n ldr r3, [r0, #4]\n ldr r5, [r0, #8]\n ldr r7, [r0, #12]\n ldr r9, [r0, #16]\n"
      "ldr r11, [r0, #20]\n ldr r8, [r0, #28]\n ldr r0, [r0, #24]\n"
      "mov r2, r0\n mov r4, r0\n mov r6, r0\n mov r10, r8\n mov r12, r8\n mov lr, r8\n"
      "cmp r11, #0\n"
      "beq 2f\n"
      "1:\n"
      "vld20.8 {q0, q1}, [r1]\n vld21.8 {q0, q1}, [r1]!\n"
      "vldrb.8 q2, [r3], #16\n vmladava.s8 r0, q2, q0\n"
      "vldrb.8 q3, [r5], #16\n vmladava.s8 r8, q2, q1\n"
      "vldrb.8 q2, [r7], #16\n vmladava.s8 r2, q3, q0\n"
      "vmladava.s8 r10, q3, q1\n vmladava.s8 r4, q2, q0\n"
      "vldrb.8 q3, [r9], #16\n vmladava.s8 r12, q2, q1\n"
      "vmladava.s8 r6, q3, q0\n vmladava.s8 lr, q3, q1\n"
      "subs r11, r11, #1\n"
      "bne 1b\n"
      "2:\n"
      "ldr r1, [sp]\n"
      "add r1, r1, #32\n"
      "stmia r1, {r0, r2, r4, r6, r8, r10, r12, lr}\n"
      "pop {r0, r4-r11, pc}\n");
}

/* The last eight inputs where their number is no multiple of sixteen, as int16. */
static void last_eight(block_t *b, const int8_t *weights, int done) {
  int8x16_t both = vld1q_s8(weights);
  int16x8_t wa = vmovlbq_s8(both), wb = vmovltq_s8(both);
  for (int i = 0; i < 4; i++) {
    int16x8_t x = vldrbq_s16(b->x[i] + done);
    b->acc[i] = vmladavaq_s16(b->acc[i], x, wa);
    b->acc[4 + i] = vmladavaq_s16(b->acc[4 + i], x, wb);
  }
}

static const uint16_t odd_lanes[8] = {0, 1, 0, 1, 0, 1, 0, 1};

void xmae_conv(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch) {
  int k = (layer->k_h * layer->k_w * layer->in_c + 7) / 8 * 8, channels = layer->out_c;
  int positions = layer->out_h * layer->out_w, exact = layer->out_min < layer->out_zero;
  limits_t limits = limits_of(layer);
  block_t b;
  b.blocks = k / 16;
  for (int p = 0; p < positions; p += 4) {
    /* the last block may overlap the one before */
    if (p > positions - 4) p = positions < 4 ? 0 : positions - 4;
    xmae_windows(layer, input, p, (int8_t *)scratch, k, b.x);
    uint16_t to[8]; /* where outputs a and b of the four positions go */
    /* with fewer than four positions the last one is computed more than once */
    for (int i = 0; i < 4; i++) {
      int at = p + i < positions ? p + i : positions - 1;
      to[2 * i] = (uint16_t)((at - p) * channels), to[2 * i + 1] = (uint16_t)(to[2 * i] + 1);
    }
    uint16x8_t offsets = vldrhq_u16(to);
    int8_t *out = output + p * channels;
    b.weights = layer->weights;
    for (int c = 0; c < channels; c += 2, b.weights += 2 * k) {
      b.bias_a = layer->bias[c], b.bias_b = layer->bias[c + 1];
      block(&b);
      if (k % 16) last_eight(&b, b.weights + 2 * (k - 8), k - 8);
      int32x4_t even = steps(vldrwq_s32(b.acc), layer->multiplier[c], layer->shift[c], exact);
      if (c + 1 < channels) {
        int32x4_t odd =
            steps(vldrwq_s32(b.acc + 4), layer->multiplier[c + 1], layer->shift[c + 1], exact);
        vstrbq_scatter_offset_s16(out + c, offsets, codes(even, odd, &limits));
      } else /* of an odd number the last one alone, twice: GCC 12 predicates no scatter */
        vstrbq_scatter_offset_s16(out + c, vsubq_u16(offsets, vldrhq_u16(odd_lanes)),
                                  codes(even, even, &limits));
    }
  }
}

/* Depthwise: eight channels at a time along the positions of a row. Products of int16 lanes are
 * summed apart for even and odd channels, and come together again in `codes`. `w`: eight channels'
 * weights by tap. */
typedef struct {
  int32x4x2_t bias, multiplier, shift;
  limits_t limits;
  const int8_t *w;
  /* bytes between taps of two rows, and between positions */
  int32_t k_h, k_w, channels, row_step, step, exact;
} eight_t;

typedef struct {
  int32x4_t even, odd;
} sums_t;

static inline sums_t tap(sums_t acc, int16x8_t x, int16x8_t w) {
  acc.even = vaddq_s32(acc.even, vmullbq_int_s16(x, w));
  acc.odd = vaddq_s32(acc.odd, vmulltq_int_s16(x, w));
  return acc;
}

static inline int32x4_t steps4(int32x4_t acc, int32x4_t multiplier, int32x4_t shift, int exact) {
  int32x4_t high = vqrdmulhq_s32(acc, multiplier);
  /* -1 where both are negative */
  if (exact) high = vaddq_s32(high, vshrq_n_s32(vandq_s32(high, shift), 31));
  return vrshlq_s32(high, shift);
}

static inline int16x8_t finish(sums_t acc, const eight_t *e) {
  int32x4_t even = steps4(acc.even, e->multiplier.val[0], e->shift.val[0], e->exact);
  return codes(even, steps4(acc.odd, e->multiplier.val[1], e->shift.val[1], e->exact), &e->limits);
}

static inline void inside(eight_t e, const int8_t *input, int8_t *output, int positions) {
  for (; positions > 0; positions--, input += e.step, output += e.channels) {
    sums_t acc = {e.bias.val[0], e.bias.val[1]};
    const int8_t *w = e.w, *row = input;
    for (int i = e.k_h; i > 0; i--, row += e.row_step) {
      const int8_t *x = row;
      for (int j = e.k_w; j > 0; j--, x += e.channels, w += 8)
        acc = tap(acc, vldrbq_s16(x), vldrbq_s16(w));
    }
    vstrbq_s16(output, finish(acc, &e));
  }
}

/* A position with taps in the padding; `y`, `x`: its first tap, which `input` points at if it is
 * there. */
static void at_edge(const xmae_conv_t *layer, const eight_t *e, const int8_t *input, int8_t *output,
                    int y, int x) {
  sums_t acc = {e->bias.val[0], e->bias.val[1]};
  const int8_t *w = e->w;
  for (int i = 0; i < e->k_h; i++)
    for (int j = 0; j < e->k_w; j++, w += 8) {
      int there = y + i >= 0 && y + i < layer->in_h && x + j >= 0 && x + j < layer->in_w;
      int16x8_t in = there ? vldrbq_s16(input + i * e->row_step + j * e->channels)
                           : vdupq_n_s16(layer->in_zero);
      acc = tap(acc, in, vldrbq_s16(w));
    }
  vstrbq_s16(output, finish(acc, e));
}

void xmae_depthwise(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch) {
  int taps = layer->k_h * layer->k_w, channels = layer->in_c, out_w = layer->out_w,
      plain = channels % 8;
  for (int c = 0; c < channels; c++) plain |= layer->shift[c] > 0;
  if (plain) {
    xmae_depthwise_plain(layer, input, output, scratch);
    return;
  }
  /* positions [first, last) of a row have no tap left or right of the input */
  int room = layer->in_w + layer->pad_w - layer->k_w,
      first = (layer->pad_w + layer->stride_w - 1) / layer->stride_w;
  int last = room < 0 ? 0 : room / layer->stride_w + 1;
  if (last > out_w) last = out_w;
  int8_t *w = (int8_t *)scratch;
  eight_t e;
  e.w = w, e.limits = limits_of(layer);
  e.k_h = layer->k_h, e.k_w = layer->k_w, e.channels = channels;
  e.row_step = layer->in_w * channels, e.step = layer->stride_w * channels;
  e.exact = layer->out_min < layer->out_zero;
  for (int c = 0; c < channels; c += 8) {
    for (int t = 0; t < taps; t++) {
      memcpy(w + 8 * t, layer->weights + c * taps + 4 * t, 4);
      memcpy(w + 8 * t + 4, layer->weights + (c + 4) * taps + 4 * t, 4);
    }
    int16x8_t shift = vldrbq_s16(layer->shift + c);
    e.bias = vld2q_s32(layer->bias + c), e.multiplier = vld2q_s32(layer->multiplier + c);
    e.shift.val[0] = vmovlbq_s16(shift), e.shift.val[1] = vmovltq_s16(shift);
    int8_t *to = output + c;
    for (int oy = 0; oy < layer->out_h; oy++) {
      int y = oy * layer->stride_h - layer->pad_h, whole = y >= 0 && y + layer->k_h <= layer->in_h;
      for (int ox = 0; ox < out_w;) {
        int x = ox * layer->stride_w - layer->pad_w,
            n = whole && ox == first && first < last ? last - first : 0;
        const int8_t *from = input + (y * layer->in_w + x) * channels + c;
        if (n)
          inside(e, from, to, n);
        else
          at_edge(layer, &e, from, to, y, x), n = 1;
        ox += n, to += n * channels;
      }
    }
  }
}

/* shift <= 0, as in every ADD */
static inline int32x4_t term(int32x4_t x, int32_t multiplier, int32_t shift) {
  int32x4_t high = vqrdmulhq_n_s32(x, multiplier);
  if (shift) high = vaddq_s32(high, vshrq_n_s32(high, 31));
  return vrshlq_n_s32(high, shift);
}

void xmae_add(const xmae_add_t *layer, const int8_t *input1, const int8_t *input2, int8_t *output) {
  int32x4_t low = vdupq_n_s32(layer->out_min), high = vdupq_n_s32(layer->out_max);
  int32_t zero1 = layer->zero1, zero2 = layer->zero2, m1 = layer->multiplier1,
          m2 = layer->multiplier2;
  int32_t m = layer->multiplier_out, shift1 = layer->shift1, shift2 = layer->shift2,
          shift = layer->shift_out;
  for (int32_t i = 0; i + 4 <= layer->size; i += 4) {
    int32x4_t a = term(vshlq_n_s32(vsubq_n_s32(vldrbq_s32(input1 + i), zero1), 20), m1, shift1);
    int32x4_t b = term(vshlq_n_s32(vsubq_n_s32(vldrbq_s32(input2 + i), zero2), 20), m2, shift2);
    int32x4_t sum = vaddq_n_s32(term(vaddq_s32(a, b), m, shift), layer->out_zero);
    vstrbq_s32(output + i, vminq_s32(vmaxq_s32(sum, low), high));
  }
  xmae_add_t rest = *layer;
  rest.size = layer->size % 4;
  int32_t done = layer->size - rest.size;
  xmae_add_plain(&rest, input1 + done, input2 + done, output + done);
}

#else
typedef int xmae_no_mve_t; /* ISO C forbids an empty file */
#endif
