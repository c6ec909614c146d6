/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The public calls: codes -> front end -> network -> beats -> result; see export/stream.py, step by
 * step. */
#include "xmae_internal.h"

#include <string.h>

#define READY 0x3e5a31f7u
#define SPAN 10u      /* s that quality looks back */
#define STILL 2u      /* s without any movement: nothing there */
#define MOST_BEATS 6u /* of one second */
#define REFUSING (XMAE_FLAT | XMAE_START | XMAE_UNSURE | XMAE_MIXED)
#define CERTAINTY_STEP 16u
#define MIN_BPM 3000
#define MAX_BPM 22000
/* 10 ms x (54 samples that the front end looks ahead + 0.5 + 1.5 to an output's middle) */
#define FRONT_END_MS 560
#define CODE_UNITS 100000u
#define BACKWARDS 0x80000000u /* ms: differences of times from here on are negative */
#define MOST_MS 8000000u      /* longer gaps leave no room whatever the hop */

static xmae_status_t known_model(const xmae_model_t *model) {
  if (!model) return XMAE_ERROR_NULL;
  if (model->magic != XMAE_MODEL_MAGIC) return XMAE_ERROR_MODEL;
  return model->version == XMAE_MODEL_VERSION ? XMAE_OK : XMAE_ERROR_VERSION;
}

static uint32_t channels(const xmae_config_t *config) {
  return config->channels ? config->channels : 1u;
}

/* Channels of the model's input. */
static uint32_t inputs_of(const xmae_model_t *model) {
  return model->n_layers ? (uint32_t)model->layers->conv.in_c : 1u;
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
  uint32_t crc = 0;
  for (uint32_t i = 0; i < model->n_blobs; i++)
    crc = xmae_crc32(crc, model->blobs[i].data, model->blobs[i].bytes);
  return crc == model->crc32 ? XMAE_OK : XMAE_ERROR_MODEL;
}

static void start(xmae_t *x, const xmae_config_t *config, int8_t *memory) {
  memset(x, 0, sizeof *x);
  memset(memory, 0, config->model->memory_bytes);
  x->config = config, x->memory = memory;
  x->last_code = -1;
  x->hop_left = config->hop_s;
  x->samples_left = XMAE_HISTORY + XMAE_CHUNK * (uint32_t)config->hop_s;
  xmae_front_end_reset(&x->front_end);
  if (config->model->engine) config->model->engine->reset(config->model, memory);
  xmae_reader_reset(&x->reader);
  x->ready_mark = READY;
}

xmae_status_t xmae_start(xmae_t *x, const xmae_config_t *config, void *memory, uint32_t bytes,
                         uint32_t inputs) {
  if (!x || !config || !memory) return XMAE_ERROR_NULL;
  xmae_status_t known = known_model(config->model);
  if (known != XMAE_OK) return known;
  if (inputs_of(config->model) != inputs) return XMAE_ERROR_MODEL;
  if (config->rate < XMAE_MIN_RATE || config->rate > XMAE_MAX_RATE) return XMAE_ERROR_RATE;
  if (config->bits < XMAE_MIN_BITS || config->bits > XMAE_MAX_BITS) return XMAE_ERROR_BITS;
  if (config->hop_s < 1 || config->hop_s > XMAE_MAX_HOP_S) return XMAE_ERROR_HOP;
  if (config->channels > XMAE_MAX_CHANNELS || config->channel >= channels(config))
    return XMAE_ERROR_CHANNEL;
  if (bytes < config->model->memory_bytes || (uintptr_t)memory % 4) return XMAE_ERROR_MEMORY;
  start(x, config, (int8_t *)memory);
  return XMAE_OK;
}

xmae_status_t xmae_init(xmae_t *x, const xmae_config_t *config, void *memory, uint32_t bytes) {
  return xmae_start(x, config, memory, bytes, 1);
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
  if (!(reasons & REFUSING) && xmae_doubt(x->recent, result->rate, result->irregularity))
    reasons |= XMAE_MIXED;
  result->reasons = (uint8_t)reasons;
  result->low = result->high = 0;
  if (reasons & REFUSING) {
    result->rate = 0, result->rhythm = XMAE_RHYTHM_UNKNOWN;
  } else {
    int32_t half = model->half_width[result->certainty / CERTAINTY_STEP];
    result->low = (uint16_t)xmae_clamp(result->rate - half, MIN_BPM, MAX_BPM);
    result->high = (uint16_t)xmae_clamp(result->rate + half, MIN_BPM, MAX_BPM);
  }
  if (x->companion) x->companion->decide(x);
  x->waiting = 1;
}

/* Run what makes the map of a second, and read it. */
static void read_second(xmae_t *x) {
  const xmae_model_t *model = x->config->model;
  if (x->companion) x->companion->fill(x, model->engine->input(model, x->memory));
  const int8_t *map = model->engine->run(model, x->memory);
  xmae_reader_push(&x->reader, model, map);
  if (x->companion) x->companion->follow(x, map);
}

/* A second of samples is there. */
static void end_second(xmae_t *x) {
  const xmae_model_t *model = x->config->model;
  if (x->moved)
    x->still = 0;
  else if (x->still < STILL)
    x->still++;
  x->moved = 0;
  if (model->engine) read_second(x);
  if (x->seconds < SPAN) x->seconds++;
  if (--x->hop_left) return;
  x->hop_left = x->config->hop_s;
  /* the code may have completed samples beyond */
  x->samples_left += XMAE_CHUNK * (uint32_t)x->config->hop_s;
  make_result(x);
}

/* Keep the mean of every four samples of the last 10 s. */
static void keep_recent(xmae_t *x, int8_t scaled) {
  if (!x->n_samples) memmove(x->recent, x->recent + XMAE_OUTPUTS, sizeof x->recent - XMAE_OUTPUTS);
  x->four = (int16_t)(x->four + scaled);
  if (x->n_samples % 4u != 3u) return;
  x->recent[sizeof x->recent - XMAE_OUTPUTS + x->n_samples / 4u] = (int8_t)(x->four >> 2);
  x->four = 0;
}

/* Take a sample at 100 Hz into the window's ring and into the network. */
static void take_sample(xmae_t *x, int8_t scaled, int32_t deviation) {
  const xmae_model_t *model = x->config->model;
  int8_t *window = x->memory + model->window;
  int8_t input = (int8_t)xmae_clamp(scaled + model->input_zero, -128, 127);
  if (!model->n_steps)
    (void)window; /* no embedding is made from it */
  else if (model->steps_per_one)
    memcpy(window + sizeof deviation * x->newest, &deviation, sizeof deviation);
  else
    window[x->newest] = input;
  x->newest = (uint16_t)(x->newest + 1u < XMAE_WINDOW ? x->newest + 1u : 0u);
  if (scaled) x->moved = 1;
  keep_recent(x, scaled);
  if (model->engine)
    model->engine->input(model, x->memory)[(size_t)x->n_samples * inputs_of(model)] = input;
  if (++x->n_samples < XMAE_CHUNK) return;
  x->n_samples = 0;
  end_second(x);
}

static void push_code(xmae_t *x, uint32_t code, int lost) {
  const xmae_config_t *config = x->config;
  uint32_t rail = ((uint32_t)1 << config->bits) - 1;
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
  xmae_samples_t samples;
  xmae_front_end_push(&x->front_end, config->rate, config->inverted ? rail - code : code, &samples);
  x->samples_left -= samples.resampled;
  for (uint32_t i = 0; i < samples.n; i++) take_sample(x, samples.scaled[i], samples.deviations[i]);
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

/* Whether codes can be taken. */
static xmae_status_t check_codes(const xmae_t *x, const int32_t *codes, uint32_t n, uint32_t lost) {
  if (n && !codes) return XMAE_ERROR_NULL;
  uint32_t room = xmae_room(x), stride = channels(x->config);
  if (n > room || lost > room - n) return XMAE_ERROR_OVERRUN;
  int32_t limit = (int32_t)1 << x->config->bits;
  for (uint32_t i = 0; i < n; i++) {
    int32_t code = codes[i * stride + x->config->channel];
    if (code < 0 || code >= limit) return XMAE_ERROR_CODE;
  }
  return XMAE_OK;
}

xmae_status_t xmae_push(xmae_t *x, const int32_t *codes, uint32_t n, uint32_t lost) {
  xmae_status_t status = usable(x);
  if (status == XMAE_OK) status = check_codes(x, codes, n, lost);
  if (status != XMAE_OK || n + lost == 0) return status;
  uint32_t stride = channels(x->config);
  if (n) codes += x->config->channel;
  int32_t held = x->last_code >= 0 ? x->last_code : n ? codes[0] : 0;
  for (uint32_t i = 0; i < lost; i++) push_code(x, (uint32_t)held, 1);
  for (uint32_t i = 0; i < n; i++) push_code(x, (uint32_t)codes[(size_t)i * stride], 0);
  x->last_code = n ? codes[(size_t)(n - 1) * stride] : held;
  x->timed = 0;
  return XMAE_OK;
}

xmae_status_t xmae_push_at(xmae_t *x, const int32_t *codes, uint32_t n, uint32_t time) {
  xmae_status_t status = usable(x);
  if (status != XMAE_OK || !n) return status;
  uint32_t ahead = x->timed ? time - x->next_ms : 0, rate = x->config->rate, lost = 0;
  if (ahead >= BACKWARDS) {
    uint32_t behind = 0u - ahead;
    if (behind > (uint32_t)XMAE_JITTER_MS) return XMAE_ERROR_TIME;
  } else if (ahead > MOST_MS) {
    return XMAE_ERROR_OVERRUN;
  } else if (ahead > (uint32_t)XMAE_JITTER_MS) {
    lost = (xmae_divide((uint64_t)ahead * rate, 1000) + 500) / 1000;
  }
  status = xmae_push(x, codes, n, lost);
  if (status != XMAE_OK) return status;
  x->timed = 1;
  x->next_ms = time + xmae_divide((uint64_t)n * 1000000u, rate);
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

/* Whether there are 10 s. */
static xmae_status_t has_window(const xmae_t *x) {
  xmae_status_t status = usable(x);
  if (status != XMAE_OK) return status;
  if (!x->config->model->n_steps) return XMAE_ERROR_MODEL;
  return x->seconds < SPAN ? XMAE_EMPTY : XMAE_OK;
}

static void copy_window(const xmae_t *x, int8_t *window) {
  const xmae_model_t *model = x->config->model;
  const int8_t *ring = x->memory + model->window;
  uint32_t older = XMAE_WINDOW - x->newest;
  if (model->steps_per_one) {
    xmae_scale_window(model, (const int32_t *)(const void *)ring, x->newest, window);
    return;
  }
  memcpy(window, ring + x->newest, older);
  memcpy(window + older, ring, x->newest);
}

xmae_status_t xmae_copy_window(const xmae_t *x, int8_t *window) {
  xmae_status_t status = has_window(x);
  if (status < XMAE_OK) return status;
  if (!window) return XMAE_ERROR_NULL;
  if (status == XMAE_OK) copy_window(x, window);
  return status;
}

xmae_status_t xmae_embed(const xmae_t *x, void *memory, uint32_t bytes, int8_t *embedding,
                         uint32_t size) {
  xmae_status_t status = has_window(x);
  if (status < XMAE_OK) return status;
  const xmae_model_t *model = x->config->model;
  if (!memory || !embedding) return XMAE_ERROR_NULL;
  if (bytes < model->embed_bytes || (uintptr_t)memory % 4) return XMAE_ERROR_MEMORY;
  if (size < model->embedding_size) return XMAE_ERROR_SIZE;
  if (status != XMAE_OK) return status;
  copy_window(x, (int8_t *)memory + model->source);
  memcpy(embedding, xmae_steps_run(model, (int8_t *)memory), model->embedding_size);
  return XMAE_OK;
}

uint32_t xmae_heads(const xmae_model_t *model) {
  return known_model(model) == XMAE_OK ? model->n_heads : 0;
}

const char *xmae_head_name(const xmae_model_t *model, uint32_t head) {
  return head < xmae_heads(model) ? model->heads[head].name : 0;
}

xmae_status_t xmae_head(const xmae_model_t *model, uint32_t head, const int8_t *embedding,
                        int32_t *value) {
  xmae_status_t status = known_model(model);
  if (status != XMAE_OK) return status;
  if (!embedding || !value) return XMAE_ERROR_NULL;
  if (head >= model->n_heads) return XMAE_ERROR_HEAD;
  const xmae_head_t *h = &model->heads[head];
  int64_t sum = h->bias;
  for (uint32_t i = 0; i < model->embedding_size; i++)
    sum += (int64_t)h->weights[i] * (embedding[i] - model->embedding_zero);
  sum = h->shift ? (sum + ((int64_t)1 << (h->shift - 1))) >> h->shift : sum;
  *value = sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : (int32_t)sum;
  return XMAE_OK;
}
