/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The public calls: codes -> front end -> network -> beats -> result; see export/stream.py, step by step. */
#include "xmae_internal.h"

#include <string.h>

#define READY 0x3e5a31f7u
#define SPAN 10u        /* s that quality looks back */
#define STILL 2u        /* s without any movement: nothing there */
#define MOST_BEATS 6u   /* of one second */
#define REFUSING (XMAE_FLAT | XMAE_START | XMAE_UNSURE)
#define CERTAINTY_STEP 16u
#define MIN_BPM 3000
#define MAX_BPM 22000
#define FRONT_END_MS 560 /* 10 ms x (54 samples that the front end looks ahead + 0.5 + 1.5 to an output's middle) */
#define CODE_UNITS 100000u

static xmae_status_t known_model(const xmae_model_t *model) {
  if (!model) return XMAE_ERROR_NULL;
  if (model->magic != XMAE_MODEL_MAGIC) return XMAE_ERROR_MODEL;
  return model->version == XMAE_MODEL_VERSION ? XMAE_OK : XMAE_ERROR_VERSION;
}

static int is_ready(const xmae_t *x) { return x && x->ready_mark == READY; }

static xmae_status_t usable(const xmae_t *x) {
  if (!x) return XMAE_ERROR_NULL;
  return is_ready(x) ? XMAE_OK : XMAE_ERROR_STATE;
}

const char *xmae_version(void) { return XMAE_VERSION; }

uint32_t xmae_memory_bytes(const xmae_model_t *model) {
  return known_model(model) == XMAE_OK ? model->memory_bytes : 0;
}

xmae_status_t xmae_check_model(const xmae_model_t *model) {
  xmae_status_t known = known_model(model);
  if (known != XMAE_OK) return known;
  uint32_t crc = xmae_crc32(0, model->interval, 511 * sizeof model->interval[0]);
  crc = xmae_crc32(crc, model->half_width, 16 * sizeof model->half_width[0]);
  for (uint32_t i = 0; i < model->n_layers; i++) {
    const xmae_conv_t *conv = &model->layers[i].conv;
    uint32_t taps = (uint32_t)(conv->k_h * conv->k_w), in = (uint32_t)conv->in_c, out = (uint32_t)conv->out_c;
    uint32_t weights = (out + 1u) / 2u * 2u * ((taps * in + 7u) / 8u * 8u);
    if (model->layers[i].depthwise) weights = (out + 3u) / 4u * 4u * taps;
    crc = xmae_crc32(crc, conv->weights, weights);
    crc = xmae_crc32(crc, conv->bias, out * 4);
    crc = xmae_crc32(crc, conv->multiplier, out * 4);
    crc = xmae_crc32(crc, conv->shift, out);
  }
  return crc == model->crc32 ? XMAE_OK : XMAE_ERROR_MODEL;
}

static void start(xmae_t *x, const xmae_config_t *config, int8_t *memory) {
  memset(x, 0, sizeof *x);
  x->config = config, x->memory = memory;
  x->last_code = -1;
  x->hop_left = config->hop_s;
  x->samples_left = XMAE_HISTORY + XMAE_CHUNK * (uint32_t)config->hop_s;
  xmae_front_end_reset(&x->front_end);
  xmae_network_reset(config->model, memory);
  xmae_reader_reset(&x->reader);
  x->ready_mark = READY;
}

xmae_status_t xmae_init(xmae_t *x, const xmae_config_t *config, void *memory, uint32_t bytes) {
  if (!x || !config || !memory) return XMAE_ERROR_NULL;
  xmae_status_t known = known_model(config->model);
  if (known != XMAE_OK) return known;
  if (config->rate < XMAE_MIN_RATE || config->rate > XMAE_MAX_RATE) return XMAE_ERROR_RATE;
  if (config->bits < XMAE_MIN_BITS || config->bits > XMAE_MAX_BITS) return XMAE_ERROR_BITS;
  if (config->hop_s < 1 || config->hop_s > XMAE_MAX_HOP_S) return XMAE_ERROR_HOP;
  if (bytes < config->model->memory_bytes || (uintptr_t)memory % 4) return XMAE_ERROR_MEMORY;
  start(x, config, (int8_t *)memory);
  return XMAE_OK;
}

xmae_status_t xmae_reset(xmae_t *x) {
  xmae_status_t status = usable(x);
  if (status == XMAE_OK) start(x, x->config, x->memory);
  return status;
}

/* Say what is known now. */
static void make_result(xmae_t *x) {
  const xmae_model_t *model = x->config->model;
  xmae_result_t *result = &x->result;
  xmae_reader_result(&x->reader, MOST_BEATS * x->config->hop_s, result);
  uint32_t lost = 0, saturated = 0, reasons = 0;
  for (uint32_t i = 0; i < SPAN; i++) lost += x->lost[i], saturated += x->saturated[i];
  result->lost = (uint16_t)lost, result->saturated = (uint16_t)saturated;
  if (lost) reasons |= XMAE_LOST;
  if (saturated) reasons |= XMAE_SATURATED;
  if (x->still >= STILL) reasons |= XMAE_FLAT;
  if (x->seconds < SPAN) reasons |= XMAE_START;
  if (result->certainty < model->least || !result->rate) reasons |= XMAE_UNSURE;
  result->reasons = (uint8_t)reasons;
  result->low = result->high = 0;
  if (reasons & REFUSING) {
    result->rate = 0, result->rhythm = XMAE_RHYTHM_UNKNOWN;
  } else {
    int32_t half = model->half_width[result->certainty / CERTAINTY_STEP];
    result->low = (uint16_t)xmae_clamp(result->rate - half, MIN_BPM, MAX_BPM);
    result->high = (uint16_t)xmae_clamp(result->rate + half, MIN_BPM, MAX_BPM);
  }
  x->waiting = 1;
}

static void run_chunk(xmae_t *x) {
  const xmae_model_t *model = x->config->model;
  const int8_t *samples = xmae_network_input(model, x->memory);
  int moved = 0;
  for (int i = 0; i < XMAE_CHUNK; i++) moved |= samples[i];
  if (moved)
    x->still = 0;
  else if (x->still < STILL)
    x->still++;
  xmae_reader_push(&x->reader, model, xmae_network_run(model, x->memory));
  if (x->seconds < SPAN) x->seconds++;
  if (--x->hop_left) return;
  x->hop_left = x->config->hop_s;
  x->samples_left += XMAE_CHUNK * (uint32_t)x->config->hop_s; /* the code may have completed samples beyond */
  make_result(x);
}

static void push_code(xmae_t *x, uint32_t code, int lost) {
  const xmae_config_t *config = x->config;
  uint32_t rail = ((uint32_t)1 << config->bits) - 1, resampled;
  if (x->second_phase >= config->rate) {
    x->second_phase -= config->rate;
    x->second = (uint8_t)((x->second + 1u) % SPAN);
    x->lost[x->second] = x->saturated[x->second] = 0;
  }
  x->second_phase += 1000;
  if (lost)
    x->lost[x->second]++;
  else if (code == 0 || code == rail)
    x->saturated[x->second]++;
  int8_t samples[4], *chunk = xmae_network_input(config->model, x->memory);
  uint32_t n = xmae_front_end_push(&x->front_end, config->rate, config->inverted ? rail - code : code, samples,
                                   &resampled);
  x->samples_left -= resampled;
  for (uint32_t i = 0; i < n; i++) {
    chunk[x->n_samples++] = samples[i];
    if (x->n_samples < XMAE_CHUNK) continue;
    x->n_samples = 0;
    run_chunk(x);
  }
}

/* Codes until `samples` more are complete. */
static uint32_t codes_for(const xmae_t *x, uint32_t samples) {
  uint64_t units = (uint64_t)samples * x->config->rate - x->front_end.filled;
  return xmae_divide(units + CODE_UNITS - 1, CODE_UNITS);
}

uint32_t xmae_room(const xmae_t *x) {
  if (!is_ready(x)) return 0;
  uint32_t more = x->waiting ? 0 : XMAE_CHUNK * (uint32_t)x->config->hop_s;
  return codes_for(x, x->samples_left + more) - 1;
}

xmae_status_t xmae_push(xmae_t *x, const int32_t *codes, uint32_t n, uint32_t lost) {
  xmae_status_t status = usable(x);
  if (status != XMAE_OK) return status;
  if (n && !codes) return XMAE_ERROR_NULL;
  int32_t limit = (int32_t)1 << x->config->bits;
  for (uint32_t i = 0; i < n; i++)
    if (codes[i] < 0 || codes[i] >= limit) return XMAE_ERROR_CODE;
  uint32_t room = xmae_room(x);
  if (n > room || lost > room - n) return XMAE_ERROR_OVERRUN;
  int32_t held = x->last_code >= 0 ? x->last_code : n ? codes[0] : 0;
  for (uint32_t i = 0; i < lost; i++) push_code(x, (uint32_t)held, 1);
  for (uint32_t i = 0; i < n; i++) push_code(x, (uint32_t)codes[i], 0);
  if (n)
    x->last_code = codes[n - 1];
  else if (lost)
    x->last_code = held;
  return XMAE_OK;
}

int xmae_ready(const xmae_t *x) { return is_ready(x) && x->waiting; }

xmae_status_t xmae_read(xmae_t *x, xmae_result_t *result) {
  xmae_status_t status = usable(x);
  if (status != XMAE_OK) return status;
  if (!result) return XMAE_ERROR_NULL;
  if (!x->waiting) return XMAE_EMPTY;
  *result = x->result;
  x->waiting = 0;
  return XMAE_OK;
}

int64_t xmae_milliseconds(const xmae_t *x, int64_t ticks) {
  if (!is_ready(x)) return 0;
  return ((ticks * 5) >> 5) + FRONT_END_MS - 10 * (int64_t)x->config->model->look_ahead -
         (int64_t)(500000u / x->config->rate);
}
