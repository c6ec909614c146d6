/* The watch: check the flash, then samples from the FIFO in, result frames out. */
#include "board.h"
#include "fifo.h"
#include "frame.h"
#include "front_end.h"
#include "pulse.h"
#include "student_int8.h"

#define STUCK_N SFREQ             /* equal codes in a row: 1 s */
#define MAX_LOST (BUFFER_N / 100) /* 0.16 s in 16 s */
#define MAX_SATURATED (BUFFER_N / 100)
/* from the first to the last sample of the buffer */
#define SPAN_MS ((BUFFER_N - 1) * 1000 / SFREQ)
#define MAX_DRIFT_MS (SPAN_MS / 200) /* 0.5 % */
/* a common multiple of all that `total` is divided by */
#define CYCLE_N ((uint32_t)BUFFER_N * HOP_N)
#define FULL_SCALE ((1u << ADC_BITS) - 1u)

/* the last samples, a ring; `total % BUFFER_N` is the oldest once it is full */
static int32_t codes[BUFFER_N];
static uint8_t faults[BUFFER_N];     /* what was wrong with each: LOST, SATURATED, STUCK */
static uint32_t second_ms[BUFFER_S]; /* when the first sample of each second came */
/* samples since the start; length of the run of equal codes at the end */
static uint32_t total, equal;
static uint32_t newest_ms, sequence;
static int8_t input[WINDOW_N], embedding[EMBEDDING_N];
static float heads[N_HEADS ? N_HEADS : 1];

#define WATCH_RAM                                                                                  \
  (sizeof codes + sizeof faults + sizeof second_ms + sizeof input + sizeof embedding + sizeof heads)

_Static_assert(XMAE_INPUT_SIZE == WINDOW_N && XMAE_OUTPUT_SIZE == EMBEDDING_N,
               "network and front end disagree");
_Static_assert(WATCH_RAM + FIFO_RAM + FRONT_END_RAM + PULSE_RAM + FRAME_RAM + XMAE_ARENA_BYTES +
                       STACK_BYTES <=
                   RAM_BYTES,
               "buffers, arena and stack exceed the RAM of the device profile");
_Static_assert(XMAE_WEIGHTS_BYTES + sizeof constants <= FLASH_BYTES,
               "weights exceed the flash of the device profile");

/* The weights carry scale and zero point of the embedding: they multiply codes. Returns whether all
 * is plausible. */
static int apply_heads(void) {
  int plausible = 1;
  for (int h = 0; h < N_HEADS; h++) {
    heads[h] = constants.head_bias[h];
    for (int i = 0; i < EMBEDDING_N; i++)
      heads[h] += constants.head_weight[h][i] * (float)embedding[i];
    plausible &= heads[h] >= constants.head_low[h] && heads[h] <= constants.head_high[h];
  }
  return plausible;
}

static void measure(void) {
  phase_front_end();
  const uint32_t first_ms = second_ms[total / SFREQ % BUFFER_S];
  const int32_t late_ms = (int32_t)(newest_ms - first_ms - SPAN_MS);
  uint32_t status = sequence ? 0u : FIRST, lost = 0, saturated = 0;
  for (uint32_t i = 0; i < BUFFER_N; i++) {
    status |= faults[i];
    lost += (faults[i] & LOST) != 0;
    saturated += (faults[i] & SATURATED) != 0;
  }
  if (late_ms > MAX_DRIFT_MS || late_ms < -MAX_DRIFT_MS) status |= RATE;
  if (!front_end(codes, total % BUFFER_N, input)) status |= FLAT;
  if (!has_pulse(input)) status |= NO_PULSE;
  if (status & (STUCK | RATE | FLAT | NO_PULSE) || lost > MAX_LOST || saturated > MAX_SATURATED) {
    status |= INVALID;
  } else {
    xmae_model(input, embedding);
    phase_heads();
    if (!apply_heads()) status |= IMPLAUSIBLE | INVALID;
  }
  phase_frame();
  const struct result result = {
      .sequence = sequence++,
      .start_ms = first_ms + MARGIN_S * 1000u,
      .status = (uint16_t)status,
      .lost = (uint16_t)lost,
      .saturated = (uint16_t)saturated,
      .n_heads = status & INVALID ? 0 : N_HEADS,
      .n_embedding = status & INVALID ? 0 : EMBEDDING_N,
  };
  frame_result(&result, heads, embedding);
#if TRACE
  phase_trace();
  frame_input(input);
#endif
  phase_samples();
}

static void add(int32_t code, uint32_t fault, uint32_t time_ms) {
  const uint32_t newest = (total + BUFFER_N - 1u) % BUFFER_N;
  equal = total && code == codes[newest] ? equal + 1u : 1u;
  if (equal >= STUCK_N) fault |= STUCK;
  if (total % SFREQ == 0) second_ms[total / SFREQ % BUFFER_S] = time_ms;
  codes[total % BUFFER_N] = code;
  faults[total % BUFFER_N] = (uint8_t)fault;
  newest_ms = time_ms;
  if (++total == 2 * CYCLE_N) total = CYCLE_N; /* never wraps */
  if (total >= BUFFER_N && (total - BUFFER_N) % HOP_N == 0) measure();
}

/* One sample of the front end; those lost before it are bridged by a straight line, in time too. */
static void take(struct sample sample) {
  const int32_t code = (int32_t)WORD_CODE(sample.word), gaps = (int32_t)WORD_LOST(sample.word) + 1;
  if (total) {
    const int32_t from = codes[(total - 1u) % BUFFER_N], step = code - from;
    const uint32_t from_ms = newest_ms, step_ms = sample.time_ms - newest_ms;
    for (int32_t k = 1; k < gaps; k++)
      add(from + step * k / gaps, LOST, from_ms + step_ms / (uint32_t)gaps * (uint32_t)k);
  }
  const int at_rail = WORD_CODE(sample.word) == 0 || WORD_CODE(sample.word) >= FULL_SCALE;
  add(code, WORD_SATURATED(sample.word) || at_rail ? SATURATED : 0u, sample.time_ms);
}

/* 0: the recording has ended; 1: no input; 2: damaged flash, nothing was measured. */
int app(void) {
  struct sample sample;
  phase_boot();
  if (!board_open()) return 1;
  uint32_t crc;
  const int intact = board_flash_intact(&crc);
  frame_boot(intact ? 0u : BAD_FLASH | INVALID, crc);
  if (!intact) return 2;
  phase_samples();
  while (board_wait())
    while (fifo_pop(&sample)) take(sample);
  return 0;
}
