/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The fast kernels of Armv7E-M and Armv8-M with DSP extension (Cortex-M4, M7, M33): SMLAD, two
 * products at once.
 *
 * A convolution takes blocks of four positions by two output channels. The four windows are widened
 * to int16 once and shared by all outputs; one word of weights is unpacked by two SXTB16 and used
 * by eight SMLAD: 0.85 instructions per product in the inner loop, with all fourteen registers in
 * use; hence assembly. */
#include "xmae_kernels.h"

#ifdef XMAE_DSP
#include <string.h>

#define OP2(name, text)                                                                            \
  static inline uint32_t name(uint32_t a, uint32_t b) {                                            \
    uint32_t r;                                                                                    \
    __asm__(text : "=r"(r) : "r"(a), "r"(b));                                                      \
    return r;                                                                                      \
  }
#define OP3(name, text)                                                                            \
  static inline int32_t name(uint32_t a, uint32_t b, int32_t acc) {                                \
    int32_t r;                                                                                     \
    __asm__(text : "=r"(r) : "r"(a), "r"(b), "r"(acc));                                            \
    return r;                                                                                      \
  }
OP2(bottoms, "pkhbt %0, %1, %2, lsl #16") /* (a low, b low) */
OP2(tops, "pkhtb %0, %2, %1, asr #16")    /* (a high, b high) */
OP2(smmulr, "smmulr %0, %1, %2")          /* (a * b + 2^31) >> 32 */
OP3(smlad, "smlad %0, %1, %2, %3")
static inline uint32_t even_bytes(uint32_t a) { /* bytes 0 and 2, sign-extended to halves */
  uint32_t r;
  __asm__("sxtb16 %0, %1" : "=r"(r) : "r"(a));
  return r;
}
static inline uint32_t odd_bytes(uint32_t a) { /* bytes 1 and 3 */
  uint32_t r;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(a));
  return r;
}
static inline int32_t saturate8(int32_t a) {
  int32_t r;
  __asm__("ssat %0, #8, %1" : "=r"(r) : "r"(a));
  return r;
}

/* -1 for a number below zero, else 0. */
static inline int32_t sign(int32_t a) { return -(int32_t)((uint32_t)a >> 31); }

/* `n` sums of one output channel to codes, `stride` bytes apart. The first rounding is SMMULR of
 * twice the sum; rounding ties below zero away from it (`fix`) shows only where outputs below the
 * zero point are not clamped to it. */
static inline void rescale(const xmae_conv_t *layer, int c, const int32_t *acc, int n, int8_t *to,
                           int stride) {
  uint32_t multiplier = (uint32_t)layer->multiplier[c];
  int shift = layer->shift[c], left = shift > 0 ? shift + 1 : 1, right = shift > 0 ? 0 : -shift;
  int32_t offset = (int32_t)((1u << right) >> 1) + layer->out_zero * (1 << right);
  int32_t low = layer->out_min, high = layer->out_max;
  if (low == -128 && high == 127 && layer->out_zero == -128) {
    for (int i = 0; i < n; i++, to += stride)
      *to = (int8_t)saturate8(((int32_t)smmulr((uint32_t)acc[i] << left, multiplier) + offset) >>
                              right);
    return;
  }
  int32_t fix = right && low < layer->out_zero ? -1 : 0;
  for (int i = 0; i < n; i++, to += stride) {
    int32_t y = (int32_t)smmulr((uint32_t)acc[i] << left, multiplier);
    *to = (int8_t)xmae_clamp((y + (sign(y) & fix) + offset) >> right, low, high);
  }
}

/* acc[position] of output a, then of output b, from `x`: [pair of inputs][4 positions] of two
 * int16, and `w`: [input][a, b] of int8. `count`: words of w, a multiple of 4. `acc` starts as the
 * two biases. */
#define UNUSED __attribute__((unused)) /* they are in r0 to r3 */
__attribute__((naked, noinline)) static void block(const void *x UNUSED, const void *w UNUSED,
                                                   int32_t count UNUSED, int32_t *acc UNUSED) {
  __asm__ volatile(
      "push {r3-r11, lr}\n"
      "add r2, r1, r2, lsl #2\n"
      "push {r2, lr}\n" /* end of w; lr keeps the stack aligned to 8 */
      "ldrd r2, r6, [r3]\n"
      "mov r3, r2\n mov r4, r2\n mov r5, r2\n" /* r2-r5: a at the four positions */
      "mov r7, r6\n mov r8, r6\n mov r9, r6\n" /* r6-r9: b */
      "1:\n"
      ".rept 4\n"
      "ldr r11, [r1], #4\n"
      "sxtb16 r10, r11\n"
      "sxtb16 r11, r11, ror #8\n"
      "ldrd r12, lr, [r0], #8\n"
      "smlad r2, r10, r12, r2\n smlad r6, r11, r12, r6\n"
      "smlad r3, r10, lr, r3\n smlad r7, r11, lr, r7\n"
      "ldrd r12, lr, [r0], #8\n"
      "smlad r4, r10, r12, r4\n smlad r8, r11, r12, r8\n"
      "smlad r5, r10, lr, r5\n smlad r9, r11, lr, r9\n"
      ".endr\n"
      "ldr r12, [sp]\n"
      "cmp r1, r12\n"
      "bne 1b\n"
      "ldr r12, [sp, #8]\n" /* acc */
      "stmia r12, {r2-r9}\n"
      "add sp, sp, #8\n"
      "pop {r3-r11, pc}\n");
}

/* Four windows of `k` bytes (a multiple of 4) as [pair][4] of two int16. */
static void widen4(const int8_t *const rows[4], int k, uint32_t *x) {
  for (int p = 0; p < 4; p++) {
    const int8_t *row = rows[p];
    uint32_t *to = x + p;
    for (int i = 0; i < k; i += 4, to += 8) {
      uint32_t four = xmae_word(row + i), even = even_bytes(four), odd = odd_bytes(four);
      to[0] = bottoms(even, odd);
      to[4] = tops(even, odd);
    }
  }
}

static void one_position(const xmae_conv_t *layer, const int8_t *row, int k, int8_t *output) {
  const int8_t *w = layer->weights;
  for (int c = 0; c < layer->out_c; c += 2) {
    int32_t a = layer->bias[c], b = layer->bias[c + 1];
    for (int i = 0; i < k; i += 4, w += 8) {
      uint32_t four = xmae_word(row + i), even = even_bytes(four), odd = odd_bytes(four);
      uint32_t x = bottoms(even, odd), u = xmae_word(w), v = xmae_word(w + 4);
      a = smlad(even_bytes(u), x, a), b = smlad(odd_bytes(u), x, b);
      x = tops(even, odd);
      a = smlad(even_bytes(v), x, a), b = smlad(odd_bytes(v), x, b);
    }
    rescale(layer, c, &a, 1, output + c, 0);
    if (c + 1 < layer->out_c) rescale(layer, c + 1, &b, 1, output + c + 1, 0);
  }
}

void xmae_conv(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch) {
  int k = (layer->k_h * layer->k_w * layer->in_c + 7) / 8 * 8,
      positions = layer->out_h * layer->out_w;
  int8_t *copies = (int8_t *)scratch;
  if (positions < 4) {
    for (int p = 0; p < positions; p++)
      one_position(layer, xmae_window(layer, input, p, copies, k), k, output + p * layer->out_c);
    return;
  }
  uint32_t *x = (uint32_t *)(void *)(copies + 4 * k);
  for (int p = 0; p < positions; p += 4) {
    if (p > positions - 4) p = positions - 4; /* the last block may overlap the one before */
    const int8_t *rows[4];
    xmae_windows(layer, input, p, copies, k, rows);
    widen4(rows, k, x);
    const int8_t *w = layer->weights;
    int8_t *out = output + p * layer->out_c;
    for (int c = 0; c < layer->out_c; c += 2, w += 2 * k, out += 2) {
      int32_t acc[8];
      acc[0] = layer->bias[c], acc[1] = layer->bias[c + 1];
      block(x, w, k / 2, acc);
      rescale(layer, c, acc, 4, out, layer->out_c);
      if (c + 1 < layer->out_c) rescale(layer, c + 1, acc + 4, 4, out + 1, layer->out_c);
    }
  }
}

/* Depthwise: four channels at a time along the positions. Of two taps' words, PKHBT and PKHTB make
 * the bytes that one SXTB16 turns into a channel's two inputs. `constants`: four biases; for each
 * pair of taps four words, a channel's two weights in each; for each channel multiplier, offset and
 * right shift. */
typedef struct {
  const int8_t *x;
  const uint32_t *constants;
  /* stride: bytes between taps; steps: between positions */
  int32_t pairs, stride, step, out_step, positions;
  int8_t *output;
} run_t;

/* `fix` rounds ties below zero away from it: for outputs below the zero point, and shifts to the
 * right. */
#define RUN_QUAD(name, fix)                                                                        \
  __attribute__((naked, noinline)) static void name(run_t *run UNUSED) {                           \
    __asm__ volatile(                                                                              \
        "push {r0, r4-r11, lr}\n"                                                                  \
        "ldr lr, [r0, #28]\n"                                                                      \
        "1:\n"                                                                                     \
        "ldr r12, [sp]\n"                                                                          \
        "ldmia r12, {r0-r3}\n"                                                                     \
        "ldmia r1!, {r4-r7}\n"                                                                     \
        "2:\n"                                                                                     \
        "ldr r8, [r0]\n ldr r9, [r0, r3]\n add r0, r0, r3, lsl #1\n"                               \
        "pkhbt r10, r8, r9, lsl #16\n pkhtb r11, r9, r8, asr #16\n"                                \
        "ldrd r8, r9, [r1], #8\n"                                                                  \
        "sxtb16 r12, r10\n sxtb16 r10, r10, ror #8\n"                                              \
        "smlad r4, r12, r8, r4\n smlad r5, r10, r9, r5\n"                                          \
        "ldrd r8, r9, [r1], #8\n"                                                                  \
        "sxtb16 r12, r11\n sxtb16 r11, r11, ror #8\n"                                              \
        "smlad r6, r12, r8, r6\n smlad r7, r11, r9, r7\n"                                          \
        "subs r2, r2, #1\n"                                                                        \
        "bne 2b\n"                                                                                 \
        ".irp sum, r4, r5, r6, r7\n"                                                               \
        "ldmia r1!, {r8, r9, r10}\n"                                                               \
        "lsl \\sum, \\sum, #1\n smmulr \\sum, \\sum, r8\n" fix                                     \
        " add \\sum, \\sum, r9\n asr \\sum, \\sum, r10\n"                                          \
        "ssat \\sum, #8, \\sum\n"                                                                  \
        ".endr\n"                                                                                  \
        "bfi r4, r5, #8, #8\n bfi r4, r6, #16, #8\n bfi r4, r7, #24, #8\n"                         \
        "str r4, [lr]\n"                                                                           \
        "ldr r12, [sp]\n"                                                                          \
        "ldr r0, [r12]\n ldrd r8, r9, [r12, #16]\n ldr r10, [r12, #24]\n"                          \
        "add r0, r0, r8\n add lr, lr, r9\n"                                                        \
        "str r0, [r12]\n"                                                                          \
        "subs r10, r10, #1\n"                                                                      \
        "str r10, [r12, #24]\n"                                                                    \
        "bne 1b\n"                                                                                 \
        "pop {r0, r4-r11, pc}\n");                                                                 \
  }

RUN_QUAD(run_quad, "")
RUN_QUAD(run_quad_exact, "add \\sum, \\sum, \\sum, asr #31\n")

static void quad_constants(const xmae_conv_t *layer, int c, int taps, uint32_t *to) {
  const int8_t *w = layer->weights + c * taps;
  for (int i = 0; i < 4; i++) *to++ = (uint32_t)layer->bias[c + i];
  for (int t = 0; t < taps; t += 2, w += 8, to += 4) {
    uint32_t first = xmae_word(w), second = t + 1 < taps ? xmae_word(w + 4) : 0;
    uint32_t low = bottoms(first, second), high = tops(first, second);
    to[0] = even_bytes(low), to[1] = odd_bytes(low), to[2] = even_bytes(high),
    to[3] = odd_bytes(high);
  }
  for (int i = 0; i < 4; i++) {
    int right = -layer->shift[c + i];
    *to++ = (uint32_t)layer->multiplier[c + i];
    *to++ = ((1u << right) >> 1) + ((uint32_t)layer->out_zero << right);
    *to++ = (uint32_t)right;
  }
}

void xmae_depthwise(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch) {
  int taps = layer->k_h * layer->k_w, channels = layer->in_c,
      positions = layer->out_h * layer->out_w;
  int pairs = (taps + 1) / 2,
      plain = channels % 4 || layer->out_min != -128 || layer->out_max != 127;
  int exact = layer->out_zero > layer->out_min;
  for (int c = 0; c < channels && !plain; c++) plain = layer->shift[c] > -exact;
  if (plain) {
    xmae_depthwise_plain(layer, input, output, scratch);
    return;
  }
  /* row: 2 * pairs + 1 words */
  uint32_t *constants = (uint32_t *)scratch, *row = constants + 16 + 4 * pairs;
  int first, last;
  xmae_inside(layer, 2 * pairs, &first, &last);
  run_t run;
  run.constants = constants, run.pairs = pairs;
  for (int c = 0; c < channels; c += 4) {
    quad_constants(layer, c, taps, constants);
    for (int p = 0; p < positions;) {
      int inside = p == first && first < last;
      run.output = output + p * channels + c;
      if (inside) {
        run.x = input + (p * layer->stride_w - layer->pad_w) * channels + c;
        run.stride = channels, run.step = layer->stride_w * channels, run.out_step = channels;
        run.positions = last - first;
      } else {
        xmae_window4(layer, input + c, p, row);
        row[taps] = 0; /* what an odd number of taps is paired with; its weight is zero */
        run.x = (const int8_t *)row, run.stride = 4, run.positions = 1;
        run.step = run.out_step = 0;
      }
      p += run.positions;
      if (exact)
        run_quad_exact(&run);
      else
        run_quad(&run);
    }
  }
}

static inline int32_t term(int32_t twice, int32_t multiplier, int32_t offset, int32_t right,
                           int32_t fix) {
  int32_t high = (int32_t)smmulr((uint32_t)twice, (uint32_t)multiplier);
  return (high + (sign(high) & fix) + offset) >> right;
}

static inline int32_t half_of(int32_t right) { return (int32_t)((1u << right) >> 1); }

/* Shifts are zero or negative in every ADD. `fix1`, `fix2`, `fix`: -1 where a negative term is to
 * be rounded. */
static inline void add(const xmae_add_t *layer, const int8_t *input1, const int8_t *input2,
                       int8_t *output, int32_t fix1, int32_t fix2, int32_t fix) {
  int32_t m1 = layer->multiplier1, m2 = layer->multiplier2, m = layer->multiplier_out;
  int32_t right1 = -layer->shift1, right2 = -layer->shift2, right = -layer->shift_out;
  int32_t half1 = half_of(right1), half2 = half_of(right2),
          offset = half_of(right) + layer->out_zero * (1 << right);
  int32_t zero1 = layer->zero1 * (1 << 21), zero2 = layer->zero2 * (1 << 21);
  for (const int8_t *end = input1 + layer->size; input1 != end;) {
    int32_t a = term(*input1++ * (1 << 21) - zero1, m1, half1, right1, fix1);
    int32_t b = term(*input2++ * (1 << 21) - zero2, m2, half2, right2, fix2);
    *output++ = (int8_t)saturate8(term((a + b) * 2, m, offset, right, fix));
  }
}

void xmae_add(const xmae_add_t *layer, const int8_t *input1, const int8_t *input2, int8_t *output) {
  if (layer->out_min != -128 || layer->out_max != 127 || layer->shift_out < -20)
    xmae_add_plain(layer, input1, input2, output);
  else if (layer->zero1 == -128 && layer->zero2 == -128) /* no negative terms */
    add(layer, input1, input2, output, 0, 0, 0);
  else
    add(layer, input1, input2, output, layer->shift1 ? -1 : 0, layer->shift2 ? -1 : 0,
        layer->shift_out ? -1 : 0);
}

#else
typedef int xmae_no_dsp_t; /* ISO C forbids an empty file */
#endif
