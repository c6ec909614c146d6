/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* All models side by side in one image read the shipped recording: each number must be the one of
 * Python. */
#include "port.h"
#include "recording.h"
#include "vectors.h"

#define MOST_HOPS 16u /* numbers of codes that are pushed at once, in turn */

static xmae_t streams[N_VECTORS];
static uint32_t memories[N_VECTORS][MOST_MEMORY / 4 + 1], embed_memory[MOST_EMBED / 4 + 1];
static int8_t window[XMAE_WINDOW], embedding[MOST_EMBEDDING];
static xmae_result_t result;
static uint32_t n_results[N_VECTORS], n_beats[N_VECTORS], n_windows[N_VECTORS];

static int same(const int8_t *a, const int8_t *b, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (a[i] != b[i]) return 0;
  return 1;
}

static const char *check_result(const vectors_t *v, uint32_t number) {
  const int64_t fields[10] = {result.time,      result.rate,         result.low,    result.high,
                              result.certainty, result.irregularity, result.rhythm, result.lost,
                              result.saturated, result.reasons};
  if (n_results[number] >= v->n_results) return "more results than expected\n";
  for (int i = 0; i < 10; i++)
    if (fields[i] != v->results[n_results[number]][i]) return "a result differs\n";
  for (uint32_t i = 0; i < result.n_beats; i++) {
    if (n_beats[number] >= v->n_beats) return "more beats than expected\n";
    const int64_t *beat = v->beats[n_beats[number]++];
    if (result.beats[i].time != beat[0] || result.beats[i].confidence != beat[1])
      return "a beat differs\n";
  }
  n_results[number]++;
  return 0;
}

static const char *check_window(const vectors_t *v, uint32_t number) {
  uint32_t at = n_windows[number]++;
  if (at >= v->n_windows) return "more windows than expected\n";
  if (xmae_copy_window(&streams[number], window) != XMAE_OK) return "no window\n";
  if (!same(window, v->windows + at * XMAE_WINDOW, XMAE_WINDOW)) return "a window differs\n";
  if (xmae_embed(&streams[number], embed_memory, sizeof embed_memory, embedding,
                 sizeof embedding) != XMAE_OK)
    return "no embedding\n";
  if (!same(embedding, v->embeddings + at * v->embedding_size, v->embedding_size))
    return "an embedding differs\n";
  for (uint32_t i = 0; i < v->n_heads; i++) {
    int32_t value;
    if (xmae_head(v->model, i, embedding, &value) != XMAE_OK) return "no head\n";
    if (value != v->heads[at * v->n_heads + i]) return "a head differs\n";
  }
  return 0;
}

/* Push codes until a result is there, and compare it. */
static const char *push(const vectors_t *v, uint32_t number, uint32_t from, uint32_t n) {
  const char *wrong = 0;
  for (uint32_t i = from; i < from + n && !wrong; i++) {
    if (xmae_push(&streams[number], xmae_recording + i, 1, 0) != XMAE_OK)
      return "a code was refused\n";
    if (xmae_read(&streams[number], &result) != XMAE_OK) continue;
    wrong = check_result(v, number);
    if (!wrong && n_results[number] % WINDOW_EVERY == 0) wrong = check_window(v, number);
  }
  return wrong;
}

static const char *start(const vectors_t *v, uint32_t number, xmae_config_t *config) {
  config->model = v->model;
  config->rate = 1000u * XMAE_RECORDING_HZ;
  config->bits = XMAE_RECORDING_BITS;
  config->inverted = config->channels = config->channel = 0;
  config->hop_s = 1;
  if (xmae_check_model(v->model) != XMAE_OK) return "a model is damaged\n";
  if (xmae_init(&streams[number], config, memories[number], sizeof memories[number]) != XMAE_OK)
    return "no start\n";
  return 0;
}

static const char *run(void) {
  static xmae_config_t configs[N_VECTORS];
  const char *wrong = 0;
  for (uint32_t k = 0; k < N_VECTORS && !wrong; k++) wrong = start(&vectors[k], k, &configs[k]);
  for (uint32_t i = 0, n = 1; i < XMAE_RECORDING_CODES && !wrong; i += n, n = n % MOST_HOPS + 1) {
    uint32_t left = XMAE_RECORDING_CODES - i, now = left < n ? left : n;
    for (uint32_t k = 0; k < N_VECTORS && !wrong; k++) wrong = push(&vectors[k], k, i, now);
  }
  for (uint32_t k = 0; k < N_VECTORS && !wrong; k++)
    if (n_results[k] != vectors[k].n_results || n_beats[k] != vectors[k].n_beats ||
        n_windows[k] != vectors[k].n_windows)
      wrong = "fewer numbers than expected\n";
  return wrong;
}

int main(void) {
  const char *wrong = run();
  say(wrong ? wrong : "all numbers are those of Python\n");
  return wrong ? 1 : 0;
}
