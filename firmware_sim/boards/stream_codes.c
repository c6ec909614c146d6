/* libxmae on a board: codes in, results out. For comparing bits, and for counting what it costs.
 *
 * in.bin, int32: rate in mHz, bits, whether inverted, hop in s; then any number of pushes: codes
 * lost, n, n codes. out.bin, int64: each result's fields in the order of xmae_result_t, then all
 * its beats, time and confidence. */
#include "semihost.h"
#include MODEL_HEADER

#define MOST 512 /* codes that are pushed at once */
#define FIELDS (10 + 2 * XMAE_MAX_BEATS)
#define MARKER __attribute__((noinline)) /* so that an emulator can count instructions */

static uint32_t memory[(MODEL_BYTES + 3) / 4];
static xmae_t stream;
static xmae_result_t result;
static int32_t codes[MOST];
static int64_t record[FIELDS];

void host_begins(void);
MARKER void host_begins(void) { __asm__ volatile("" ::: "memory"); }

xmae_status_t measured_push(uint32_t n, uint32_t lost);
MARKER xmae_status_t measured_push(uint32_t n, uint32_t lost) {
  xmae_status_t status = xmae_push(&stream, codes, n, lost);
  if (status == XMAE_OK) (void)xmae_read(&stream, &result);
  return status;
}

static void put(int out) {
  const int64_t fields[10] = {result.time,      result.rate,         result.low,    result.high,
                              result.certainty, result.irregularity, result.rhythm, result.lost,
                              result.saturated, result.reasons};
  for (int i = 0; i < 10; i++) record[i] = fields[i];
  for (int i = 0; i < XMAE_MAX_BEATS; i++) {
    record[10 + 2 * i] = i < result.n_beats ? result.beats[i].time : -1;
    record[11 + 2 * i] = result.beats[i].confidence;
  }
  sh_write(out, record, sizeof record);
}

/* Push what there is room for, as a caller does that may fall behind. */
static int push(int out, int in, uint32_t lost, uint32_t n) {
  while (lost || n) {
    uint32_t room = xmae_room(&stream), gap = lost < room ? lost : room, take = n;
    if (room - gap < take || gap < lost) take = gap < lost ? 0 : room - gap;
    if (take > MOST) take = MOST;
    if (!gap && !take) return 10;
    if (take && sh_read(in, codes, 4 * take) != (int)(4 * take)) return 11;
    int64_t before = result.time;
    if (measured_push(take, gap) != XMAE_OK) return 12;
    host_begins();
    lost -= gap, n -= take;
    if (result.time != before) put(out);
  }
  return 0;
}

int app(void) {
  int32_t head[4], next[2];
  int in = sh_open("in.bin", 1), out = sh_open("out.bin", 5), failed = 0;
  if (sh_read(in, head, sizeof head) != (int)sizeof head) return 3;
  if (xmae_check_model(&MODEL) != XMAE_OK) return 4;
  const xmae_config_t config = {
      &MODEL, (uint32_t)head[0], (uint8_t)head[1], (uint8_t)head[2], (uint16_t)head[3], 1, 0};
  if (xmae_init(&stream, &config, memory, sizeof memory) != XMAE_OK) return 5;
  while (!failed && sh_read(in, next, sizeof next) == (int)sizeof next)
    failed = push(out, in, (uint32_t)next[0], (uint32_t)next[1]);
  sh_close(in);
  sh_close(out);
  sh_puts("done\n");
  return failed;
}
