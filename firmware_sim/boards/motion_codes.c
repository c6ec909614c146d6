/* libxmae on a moving wrist, on a board: codes of PPG and acceleration in, results out.
 *
 * in.bin, int32: rate in mHz, bits, whether inverted, hop in s, rate of acceleration in mHz, codes
 * of 1 g; then any number of pushes: n of acceleration, codes lost, n codes, the three axes n
 * times, the codes. out.bin, int64: each result's fields in the order of xmae_result_t, activity,
 * followed, belief, then all its beats. */
#include "semihost.h"
#include MODEL_HEADER

#define MOST 512 /* codes that are pushed at once */
#define SCALARS 13
#define FIELDS (SCALARS + 2 * XMAE_MAX_BEATS)
#define MARKER __attribute__((noinline)) /* so that an emulator can count instructions */

static uint32_t memory[(MODEL_BYTES + 3) / 4];
static xmae_motion_t stream;
static xmae_motion_result_t result;
static int32_t codes[MOST], axes[3 * MOST];
static int64_t record[FIELDS];

void host_begins(void);
MARKER void host_begins(void) { __asm__ volatile("" ::: "memory"); }

xmae_status_t measured_push(uint32_t moved, uint32_t n, uint32_t lost);
MARKER xmae_status_t measured_push(uint32_t moved, uint32_t n, uint32_t lost) {
  xmae_status_t status = xmae_motion_accelerate(&stream, axes, moved);
  if (status == XMAE_OK) status = xmae_motion_push(&stream, codes, n, lost);
  if (status == XMAE_OK) (void)xmae_motion_read(&stream, &result);
  return status;
}

static void put(int out) {
  const xmae_result_t *r = &result.result;
  const int64_t fields[SCALARS] = {r->time,      r->rate,         r->low,          r->high,
                                   r->certainty, r->irregularity, r->rhythm,       r->lost,
                                   r->saturated, r->reasons,      result.activity, result.followed,
                                   result.belief};
  for (int i = 0; i < SCALARS; i++) record[i] = fields[i];
  for (int i = 0; i < XMAE_MAX_BEATS; i++) {
    record[SCALARS + 2 * i] = i < r->n_beats ? r->beats[i].time : -1;
    record[SCALARS + 1 + 2 * i] = r->beats[i].confidence;
  }
  sh_write(out, record, sizeof record);
}

static int push(int out, int in, const int32_t next[3]) {
  uint32_t moved = (uint32_t)next[0], n = (uint32_t)next[2];
  if (moved > MOST || n > MOST) return 10;
  if (moved && sh_read(in, axes, 12 * moved) != (int)(12 * moved)) return 11;
  if (n && sh_read(in, codes, 4 * n) != (int)(4 * n)) return 11;
  int64_t before = result.result.time;
  if (measured_push(moved, n, (uint32_t)next[1]) != XMAE_OK) return 12;
  host_begins();
  if (result.result.time != before) put(out);
  return 0;
}

int app(void) {
  int32_t head[6], next[3];
  int in = sh_open("in.bin", 1), out = sh_open("out.bin", 5), failed = 0;
  if (sh_read(in, head, sizeof head) != (int)sizeof head) return 3;
  if (xmae_check_model(&MODEL) != XMAE_OK) return 4;
  const xmae_motion_config_t config = {
      {&MODEL, (uint32_t)head[0], (uint8_t)head[1], (uint8_t)head[2], (uint16_t)head[3], 1, 0},
      &TRACKER,
      (uint32_t)head[4],
      (uint32_t)head[5]};
  if (xmae_motion_init(&stream, &config, memory, sizeof memory) != XMAE_OK) return 5;
  while (!failed && sh_read(in, next, sizeof next) == (int)sizeof next)
    failed = push(out, in, next);
  sh_close(in);
  sh_close(out);
  sh_puts("done\n");
  return failed;
}
