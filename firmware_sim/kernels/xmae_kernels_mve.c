/* The fast kernels of Armv8.1-M with Helium (Cortex-M55, M85): VMLADAV, sixteen products at once.
 *
 * A convolution takes blocks of four positions by two output channels: one VLD2 gives sixteen weights of either output,
 * and each of the four windows' vectors is used twice. Eight sums stay in general registers. */
#include "xmae_kernels.h"

#ifdef XMAE_MVE
#include <arm_mve.h>

/* Vector of sums to output codes, see xmae_rescale. VQRDMULH is the first rounding; VRSHL rounds ties up, so where
 * outputs below the zero point exist, one is taken off what is negative first. */
static inline int32x4_t limit(int32x4_t y, const xmae_conv_t *layer) {
  y = vaddq_n_s32(y, layer->out_zero);
  return vminq_s32(vmaxq_s32(y, vdupq_n_s32(layer->out_min)), vdupq_n_s32(layer->out_max));
}

static inline int32x4_t rescale(int32x4_t acc, const xmae_conv_t *layer, int c) {
  int32_t shift = layer->shift[c];
  if (shift > 0) acc = vshlq_r_s32(acc, shift), shift = 0;
  int32x4_t high = vqrdmulhq_n_s32(acc, layer->multiplier[c]);
  if (layer->out_min < layer->out_zero && shift) high = vaddq_s32(high, vshrq_n_s32(high, 31));
  return limit(vrshlq_n_s32(high, shift), layer);
}

/* Sums of four positions for outputs a and b over `blocks` times sixteen inputs. VMLADAVA takes even registers only:
 * all eight are sums here, and the odd ones point. */
typedef struct {
  const int8_t *weights, *x[4];
  int32_t blocks, bias_a, bias_b, acc[8];
} block_t;

__attribute__((naked, noinline)) static void block(block_t *b __attribute__((unused))) { /* it is in r0 */
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

void xmae_conv(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch) {
  int k = (layer->k_h * layer->k_w * layer->in_c + 7) / 8 * 8, channels = layer->out_c;
  int positions = layer->out_h * layer->out_w;
  block_t b;
  b.blocks = k / 16;
  for (int p = 0; p < positions; p += 4) {
    if (p > positions - 4) p = positions < 4 ? 0 : positions - 4; /* the last block may overlap the one before */
    xmae_windows(layer, input, p, scratch, k, b.x);
    uint32_t to[4];
    for (int i = 0; i < 4; i++) { /* with fewer than four positions the last one is computed more than once */
      int at = p + i < positions ? p + i : positions - 1;
      to[i] = (uint32_t)((at - p) * channels);
    }
    uint32x4_t offsets = vldrwq_u32(to);
    int8_t *out = output + p * channels;
    b.weights = layer->weights;
    for (int c = 0; c < channels; c += 2, b.weights += 2 * k) {
      b.bias_a = layer->bias[c], b.bias_b = layer->bias[c + 1];
      block(&b);
      if (k % 16) last_eight(&b, b.weights + 2 * (k - 8), k - 8);
      vstrbq_scatter_offset_s32(out + c, offsets, rescale(vldrwq_s32(b.acc), layer, c));
      if (c + 1 < channels) vstrbq_scatter_offset_s32(out + c + 1, offsets, rescale(vldrwq_s32(b.acc + 4), layer, c + 1));
    }
  }
}

typedef struct {
  int32x4_t multiplier, left, right;
} rescaler_t;

static inline int32x4_t rescale4(int32x4_t acc, const rescaler_t *r, const xmae_conv_t *layer) {
  int32x4_t high = vqrdmulhq_s32(vshlq_s32(acc, r->left), r->multiplier);
  if (layer->out_min < layer->out_zero) /* -1 where both are negative */
    high = vaddq_s32(high, vshrq_n_s32(vandq_s32(high, r->right), 31));
  return limit(vrshlq_s32(high, r->right), layer);
}

/* Four channels at a time along the positions, two positions at a time where no padding is needed. */
void xmae_depthwise(const xmae_conv_t *layer, const int8_t *input, int8_t *output, void *scratch) {
  int taps = layer->k_h * layer->k_w, channels = layer->in_c, positions = layer->out_h * layer->out_w, first, last;
  if (channels % 4) {
    xmae_depthwise_plain(layer, input, output, scratch);
    return;
  }
  xmae_inside(layer, taps, &first, &last);
  int step = layer->stride_w * channels;
  for (int c = 0; c < channels; c += 4) {
    int32x4_t bias = vldrwq_s32(layer->bias + c), shift = vldrbq_s32(layer->shift + c), zero = vdupq_n_s32(0);
    rescaler_t r = {vldrwq_s32(layer->multiplier + c), vmaxq_s32(shift, zero), vminq_s32(shift, zero)};
    int8_t *to = output + c;
    for (int p = 0; p < positions; p++, to += channels) {
      const int8_t *x = scratch, *w = layer->weights + c * taps;
      int32x4_t acc = bias;
      if (p >= first && p + 1 < last) {
        int32x4_t acc2 = bias;
        x = input + (p * layer->stride_w - layer->pad_w) * channels + c;
        for (int t = 0; t < taps; t++, x += channels, w += 4) {
          int32x4_t weights = vldrbq_s32(w);
          acc = vaddq_s32(acc, vmulq_s32(vldrbq_s32(x), weights));
          acc2 = vaddq_s32(acc2, vmulq_s32(vldrbq_s32(x + step), weights));
        }
        vstrbq_s32(to, rescale4(acc, &r, layer));
        p++, to += channels, acc = acc2;
      } else {
        xmae_window4(layer, input + c, p, scratch);
        for (int t = 0; t < taps; t++, x += 4, w += 4) acc = vaddq_s32(acc, vmulq_s32(vldrbq_s32(x), vldrbq_s32(w)));
      }
      vstrbq_s32(to, rescale4(acc, &r, layer));
    }
  }
}

static inline int32x4_t term(int32x4_t x, int32_t multiplier, int32_t shift) { /* shift <= 0, as in every ADD */
  int32x4_t high = vqrdmulhq_n_s32(x, multiplier);
  if (shift) high = vaddq_s32(high, vshrq_n_s32(high, 31));
  return vrshlq_n_s32(high, shift);
}

void xmae_add(const xmae_add_t *layer, const int8_t *input1, const int8_t *input2, int8_t *output) {
  int32x4_t low = vdupq_n_s32(layer->out_min), high = vdupq_n_s32(layer->out_max);
  int32_t zero1 = layer->zero1, zero2 = layer->zero2, m1 = layer->multiplier1, m2 = layer->multiplier2;
  int32_t m = layer->multiplier_out, shift1 = layer->shift1, shift2 = layer->shift2, shift = layer->shift_out;
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
