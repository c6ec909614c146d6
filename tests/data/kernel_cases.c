/* Runs int8 kernels on cases from a file, fast and plain, each between guard bytes; multipliers and shifts end, in turn,
 * where memory does, so that reading on is a fault. See tests/test_kernels.py. */
#include "semihost.h"
#include "xmae_kernels.h"

#include <string.h>
#ifndef __arm__
#include <stdlib.h>
#endif

#define MOST 16384
#define GUARD 16
static struct {
  int32_t kind, fields[17], biases, channels, weights, inputs, outputs;
} head;
static int32_t bias[256], multipliers[256], *multiplier = multipliers;
static int8_t shifts[256], *shift = shifts, weights[MOST], input[MOST], output[MOST + GUARD];
static union {
  uint32_t align;
  uint8_t bytes[MOST + GUARD];
} scratch;

/* A copy of an array at the very end of memory: of the boards' RAM, of its own allocation on a host. */
static void *at_the_end(const void *array, uint32_t bytes) {
#ifdef __arm__
  void *place = (void *)(0x20080000u - bytes);
#else
  static void *place;
  free(place);
  place = malloc(bytes ? bytes : 1);
#endif
  return memcpy(place, array, bytes);
}

static int run(int fast) {
  memset(output, 0x5a, sizeof output);
  memset(scratch.bytes, 0x5a, sizeof scratch.bytes);
  const int32_t *f = head.fields;
  uint32_t used = 0;
  if (head.kind < 2) {
    xmae_conv_t layer = {
        weights,       bias,          multiplier,    shift,         (int16_t)f[0],  (int16_t)f[1],
        (int16_t)f[2], (int16_t)f[3], (int16_t)f[4], (int16_t)f[5], (int16_t)f[6],  (int16_t)f[7],
        (int16_t)f[8], (int16_t)f[9], (int16_t)f[10], (int16_t)f[11], (int16_t)f[12], (int16_t)f[13],
        (int16_t)f[14], (int16_t)f[15]};
    int taps = f[6] * f[7];
    used = (uint32_t)(head.kind ? XMAE_DEPTHWISE_SCRATCH(taps, f[2]) : XMAE_CONV_SCRATCH(taps * f[2]));
    if (head.kind)
      (fast ? xmae_depthwise : xmae_depthwise_plain)(&layer, input, output, scratch.bytes);
    else
      (fast ? xmae_conv : xmae_conv_plain)(&layer, input, output, scratch.bytes);
  } else if (head.kind == 2) {
    xmae_add_t layer = {f[0], f[1], f[2], f[3], (int16_t)f[4], (int16_t)f[5], (int16_t)f[6], (int16_t)f[7],
                        (int16_t)f[8], (int16_t)f[9], (int16_t)f[10], (int16_t)f[11]};
    (fast ? xmae_add : xmae_add_plain)(&layer, input, weights, output);
  } else if (head.kind == 3) {
    xmae_mean_t layer = {f[0], f[1], f[2], f[3], f[4], f[5]};
    xmae_mean(&layer, input, output);
  } else if (head.kind == 4) {
    xmae_pool_t layer = {(int16_t)f[0], (int16_t)f[1], (int16_t)f[2], (int16_t)f[3], (int16_t)f[4],
                         (int16_t)f[5], (int16_t)f[6], (int16_t)f[7], (int16_t)f[8], (int16_t)f[9],
                         (int16_t)f[10], (int16_t)f[11], (int16_t)f[12]};
    xmae_average_pool(&layer, input, output);
  } else {
    xmae_pad_t layer = {(int16_t)f[0], (int16_t)f[1], (int16_t)f[2], (int16_t)f[3], (int16_t)f[4],
                        (int16_t)f[5], (int16_t)f[6], (int16_t)f[7], (int16_t)f[8], (int16_t)f[9]};
    xmae_pad(&layer, input, output);
  }
  for (int i = 0; i < GUARD; i++)
    if (output[head.outputs + i] != 0x5a || scratch.bytes[used + (uint32_t)i] != 0x5a) return 1;
  return 0;
}

int app(void) {
  int in = sh_open("cases.bin", 1), out = sh_open("outputs.bin", 5);
  for (int n = 0; sh_read(in, &head, sizeof head) == (int)sizeof head; n++) {
    uint32_t channels = (uint32_t)head.channels, bytes = (uint32_t)head.outputs;
    sh_read(in, bias, 4 * (uint32_t)head.biases);
    sh_read(in, multipliers, 4 * channels);
    sh_read(in, shifts, channels);
    multiplier = n % 2 ? multipliers : at_the_end(multipliers, 4 * channels);
    shift = n % 2 ? at_the_end(shifts, channels) : shifts;
    sh_read(in, weights, (uint32_t)head.weights);
    sh_read(in, input, (uint32_t)head.inputs);
    for (int fast = 0; fast < 2; fast++) {
      if (run(fast)) return 1 + fast;
      sh_write(out, output, bytes);
    }
  }
  sh_close(in);
  sh_close(out);
  return 0;
}
