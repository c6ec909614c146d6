/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* A belief over heart rate; see xmae/beats/spectra.py and xmae/beats/tracker.py, step by step. */
#include "xmae_internal.h"

#include <string.h>

#define RATES XMAE_TRACKER_RATES
#define SPAN XMAE_TRACKER_SPAN
#define VALUES XMAE_TRACKER_VALUES
#define LEVELS XMAE_TRACKER_LEVELS
#define REACH XMAE_TRACKER_REACH
#define LOWEST 30u /* bpm */
#define STEP 2u    /* bpm */
#define TURN 1500u /* steps: 1 bpm is one a value */
#define QUARTER 375u
#define SHIFT 10
#define DROP 6
#define STEADY(amplitude) ((amplitude) * 25u * 82u >> DROP)
#define STILL 2000u /* root of acceleration's power below which nobody moves */
#define FULL 255u
#define LEAN_BITS 7 /* dropped where levels count by their rates */
#define LEAK 14
#define FINE 3 /* bits dropped from the sum of a second where products are added up */
#define FAINT 400000
#define GAIN_BITS 14
#define LARGEST_GAIN 2
#define LARGEST 32767
#define TOP 65535u
#define AROUND 4
#define FIRST_S 10u

/* 1024 cos of a quarter of a turn; halves are no issue: no value lies on one. */
static const int16_t quarter_wave[QUARTER + 1] = {
    1024, 1024, 1024, 1024, 1024, 1024, 1024, 1024, 1023, 1023, 1023, 1023, 1023, 1022, 1022, 1022,
    1022, 1021, 1021, 1021, 1020, 1020, 1020, 1019, 1019, 1018, 1018, 1017, 1017, 1016, 1016, 1015,
    1015, 1014, 1014, 1013, 1012, 1012, 1011, 1010, 1010, 1009, 1008, 1007, 1007, 1006, 1005, 1004,
    1003, 1003, 1002, 1001, 1000, 999,  998,  997,  996,  995,  994,  993,  992,  991,  990,  989,
    987,  986,  985,  984,  983,  982,  980,  979,  978,  976,  975,  974,  973,  971,  970,  968,
    967,  966,  964,  963,  961,  960,  958,  957,  955,  954,  952,  951,  949,  947,  946,  944,
    942,  941,  939,  937,  935,  934,  932,  930,  928,  927,  925,  923,  921,  919,  917,  915,
    913,  911,  909,  907,  905,  903,  901,  899,  897,  895,  893,  891,  889,  887,  885,  882,
    880,  878,  876,  874,  871,  869,  867,  865,  862,  860,  858,  855,  853,  851,  848,  846,
    843,  841,  838,  836,  833,  831,  828,  826,  823,  821,  818,  816,  813,  810,  808,  805,
    803,  800,  797,  794,  792,  789,  786,  784,  781,  778,  775,  772,  770,  767,  764,  761,
    758,  755,  752,  749,  746,  744,  741,  738,  735,  732,  729,  726,  723,  720,  716,  713,
    710,  707,  704,  701,  698,  695,  692,  688,  685,  682,  679,  676,  672,  669,  666,  663,
    659,  656,  653,  649,  646,  643,  639,  636,  633,  629,  626,  623,  619,  616,  612,  609,
    605,  602,  598,  595,  591,  588,  584,  581,  577,  574,  570,  567,  563,  560,  556,  552,
    549,  545,  541,  538,  534,  530,  527,  523,  519,  516,  512,  508,  505,  501,  497,  493,
    490,  486,  482,  478,  474,  471,  467,  463,  459,  455,  451,  448,  444,  440,  436,  432,
    428,  424,  420,  416,  413,  409,  405,  401,  397,  393,  389,  385,  381,  377,  373,  369,
    365,  361,  357,  353,  349,  345,  341,  337,  333,  329,  325,  321,  316,  312,  308,  304,
    300,  296,  292,  288,  284,  280,  275,  271,  267,  263,  259,  255,  251,  246,  242,  238,
    234,  230,  225,  221,  217,  213,  209,  205,  200,  196,  192,  188,  183,  179,  175,  171,
    167,  162,  158,  154,  150,  145,  141,  137,  133,  128,  124,  120,  116,  111,  107,  103,
    99,   94,   90,   86,   81,   77,   73,   69,   64,   60,   56,   51,   47,   43,   39,   34,
    30,   26,   21,   17,   13,   9,    4,    0};
static const uint8_t window[SPAN] = {1, 4, 8, 13, 15, 15, 13, 8, 4, 1};

/* Cosine and sine of a step, each 1024 at the most. */
static void turn(uint32_t step, int32_t *c, int32_t *s) {
  const int16_t *w = quarter_wave;
  if (step <= QUARTER)
    *c = w[step], *s = w[QUARTER - step];
  else if (step <= 2 * QUARTER)
    *c = -w[2 * QUARTER - step], *s = w[step - QUARTER];
  else if (step <= 3 * QUARTER)
    *c = -w[step - 2 * QUARTER], *s = -w[3 * QUARTER - step];
  else
    *c = w[TURN - step], *s = -w[step - 3 * QUARTER];
}

void xmae_tracker_reset(xmae_tracker_t *t, const xmae_tracker_table_t *table) {
  memset(t, 0, sizeof *t);
  t->table = table;
  for (uint32_t k = 0; k < RATES; k++) t->belief[k] = TOP;
}

/* Keep the sums of a second. */
static void keep(xmae_spectra_t *spectra, uint32_t second, uint32_t k, int32_t cosine,
                 int32_t sine) {
  spectra->blocks[second][k][0] = (int16_t)(cosine >> SHIFT);
  spectra->blocks[second][k][1] = (int16_t)(sine >> SHIFT);
}

/* One second of PPG, three axes and the map, turned at each rate. The map turns as a complex
 * number. */
static void add_second(xmae_tracker_t *t) {
  int16_t (*v)[VALUES] = t->work.values;
  for (uint32_t k = 0; k < RATES; k++) {
    uint32_t rate = LOWEST + STEP * k, step = rate * t->place % TURN;
    int32_t c, s, c0 = 0, c1 = 0, c2 = 0, c3 = 0, s0 = 0, s1 = 0, s2 = 0, s3 = 0, map_c = 0,
                  map_s = 0;
    for (uint32_t i = 0; i < VALUES; i++) {
      turn(step, &c, &s);
      c0 += v[0][i] * c, s0 -= v[0][i] * s;
      c1 += v[1][i] * c, s1 -= v[1][i] * s;
      c2 += v[2][i] * c, s2 -= v[2][i] * s;
      c3 += v[3][i] * c, s3 -= v[3][i] * s;
      map_c += v[4][i] * c + v[5][i] * s, map_s += v[5][i] * c - v[4][i] * s;
      step += rate;
      if (step >= TURN) step -= TURN;
    }
    keep(&t->ppg, t->newest, k, c0, s0);
    keep(&t->acc[0], t->newest, k, c1, s1);
    keep(&t->acc[1], t->newest, k, c2, s2);
    keep(&t->acc[2], t->newest, k, c3, s3);
    keep(&t->map, t->newest, k, map_c, map_s);
  }
  t->place = (uint16_t)((t->place + VALUES) % TURN);
  t->newest = (uint8_t)((t->newest + 1u) % SPAN);
}

/* Add weighted sums of seconds, those of block `from` and after. */
static const uint8_t *weighted(int32_t total[2], const xmae_spectra_t *spectra, uint32_t k,
                               uint32_t from, uint32_t to, const uint8_t *weight) {
  const int16_t (*block)[2] = &spectra->blocks[from][k];
  for (uint32_t i = from; i < to; i++, block += RATES) {
    total[0] += *weight * block[0][0];
    total[1] += *weight++ * block[0][1];
  }
  return weight;
}

/* The spectrum of 10 s at a rate. */
static void total_of(int32_t total[2], const xmae_tracker_t *t, const xmae_spectra_t *spectra,
                     uint32_t k) {
  total[0] = total[1] = 0;
  const uint8_t *weight = weighted(total, spectra, k, t->newest, SPAN, window);
  (void)weighted(total, spectra, k, 0, t->newest, weight);
  total[0] >>= DROP, total[1] >>= DROP;
}

static uint32_t squared(const int32_t x[2]) {
  return (uint32_t)(x[0] * x[0]) + (uint32_t)(x[1] * x[1]);
}

static int32_t within(int32_t x, int32_t most) { return x < -most ? -most : x > most ? most : x; }

/* Divide, rounded down. */
static int32_t down(int32_t n, int32_t d) { return n / d - (n % d < 0); }

/* What least squares ask for: products of a signal and an axis, and the axis squared. */
typedef struct {
  int32_t re, im, whole;
} products_t;

/* Add weighted products of `n` seconds; the weights that are left. */
static const uint8_t *multiply(products_t *sum, const int16_t (*p)[2], const int16_t (*q)[2],
                               uint32_t n, const uint8_t *weight) {
  int32_t re = sum->re, im = sum->im, whole = sum->whole;
  for (; n; n--, p += RATES, q += RATES) {
    int32_t a = p[0][0] >> FINE, b = p[0][1] >> FINE, c = q[0][0] >> FINE, d = q[0][1] >> FINE;
    int32_t w = *weight++;
    re += w * (a * c + b * d), im += w * (b * c - a * d), whole += w * (c * c + d * d);
  }
  sum->re = re, sum->im = im, sum->whole = whole;
  return weight;
}

/* Take from a spectrum of the PPG what keeps pace with an axis, whose spectrum is `other`: one gain
 * and delay by least squares. */
static void take_off(int32_t total[2], const xmae_tracker_t *t, const xmae_spectra_t *axis,
                     const int32_t other[2], uint32_t k) {
  const uint32_t from = t->newest;
  products_t sum = {0, 0, FAINT};
  const uint8_t *weight =
      multiply(&sum, &t->ppg.blocks[from][k], &axis->blocks[from][k], SPAN - from, window);
  (void)multiply(&sum, &t->ppg.blocks[0][k], &axis->blocks[0][k], from, weight);
  uint32_t drop = 0;
  while (sum.whole >> GAIN_BITS >> drop) drop++;
  const int32_t whole = sum.whole >> drop, most = LARGEST_GAIN * whole;
  const int32_t re = within(sum.re >> drop, most), im = within(sum.im >> drop, most);
  total[0] = within(total[0] - down(re * other[0] - im * other[1], whole), LARGEST);
  total[1] = within(total[1] - down(re * other[1] + im * other[0], whole), LARGEST);
}

static uint32_t root(uint32_t x) {
  uint32_t result = 0, bit = (uint32_t)1 << 30;
  while (bit > x) bit >>= 2;
  for (; bit; bit >>= 2) {
    if (x >= result + bit) {
      x -= result + bit;
      result = (result >> 1) + bit;
    } else {
      result >>= 1;
    }
  }
  return result;
}

/* Bring values to 0 to 255 of the largest, or of `least` if that is more. */
static void normalise(uint16_t *x, uint32_t least) {
  for (uint32_t k = 0; k < RATES; k++)
    if (x[k] > least) least = x[k];
  for (uint32_t k = 0; k < RATES; k++) x[k] = (uint16_t)(FULL * x[k] / least);
}

/* Spectra of PPG, less what keeps pace with the strongest axis, and of acceleration. */
static void look(const xmae_tracker_t *t, uint32_t k, uint16_t *ppg, uint16_t *acc) {
  int32_t total[4][2]; /* three axes, PPG */
  uint32_t strongest = 0, sum = 0, most = 0;
  for (uint32_t i = 0; i < 3; i++) {
    total_of(total[i], t, &t->acc[i], k);
    uint32_t power = squared(total[i]);
    sum += power;
    if (power > most) most = power, strongest = i;
  }
  total_of(total[3], t, &t->ppg, k);
  take_off(total[3], t, &t->acc[strongest], total[strongest], k);
  *ppg = (uint16_t)root(squared(total[3])), *acc = (uint16_t)root(sum);
}

/* The likelihood of every rate. */
static void weigh(xmae_tracker_t *t) {
  uint16_t *ppg = t->work.levels[0], *acc = t->work.levels[1];
  for (uint32_t k = 0; k < RATES; k++) look(t, k, &ppg[k], &acc[k]);
  normalise(ppg, 1), normalise(acc, STILL);
  const uint32_t quarters = t->table->quarters, lowest = LOWEST + t->table->lean;
  for (uint32_t k = 0; k < RATES; k++) {
    uint32_t off = acc[k] * quarters / 4, left = ppg[k] > off ? ppg[k] - off : 0;
    ppg[k] = (uint16_t)(left * (lowest + STEP * k) >> LEAN_BITS);
  }
  normalise(ppg, 1);
  for (uint32_t k = 0; k < RATES; k++) {
    int32_t map[2];
    total_of(map, t, &t->map, k);
    uint32_t turning = root(squared(map)) * (FULL + 1) / STEADY(256u);
    if (turning > FULL) turning = FULL;
    t->likely[k] = t->table->evidence[turning * LEVELS / (FULL + 1)][ppg[k] * LEVELS / (FULL + 1)];
  }
}

/* Spread the belief by how heart rates change, and weigh it. */
static void believe(xmae_tracker_t *t) {
  uint32_t *next = t->work.spread.next, whole = 0, top = 1;
  const uint16_t *before = t->work.spread.before + REACH;
  memset(t->work.spread.before, 0, sizeof t->work.spread.before);
  memcpy(t->work.spread.before + REACH, t->belief, sizeof t->belief);
  for (uint32_t k = 0; k < RATES; k++) whole += t->belief[k];
  for (uint32_t k = 0; k < RATES; k++, before++) {
    uint32_t moved = (uint32_t)t->table->transition[0] * before[0];
    for (int32_t d = 1; d <= REACH; d++)
      moved += t->table->transition[d] * ((uint32_t)before[-d] + before[d]);
    moved = (moved >> 12) + (whole >> LEAK);
    next[k] = (moved < TOP ? moved : TOP) * t->likely[k];
    if (next[k] > top) top = next[k];
  }
  uint32_t shift = 0;
  while (top >> shift > TOP) shift++;
  for (uint32_t k = 0; k < RATES; k++) {
    uint32_t value = next[k] >> shift;
    t->belief[k] = (uint16_t)(value ? value : 1);
  }
}

void xmae_tracker_push(xmae_tracker_t *t, const int8_t *samples, uint32_t channels,
                       const int16_t *map, uint32_t unit) {
  const size_t stride = channels;
  memset(&t->work, 0, sizeof t->work);
  for (uint32_t i = 0; i < VALUES; i++) {
    const int8_t *x = samples + 4 * stride * i;
    for (uint32_t n = 0; n < channels; n++, x++)
      t->work.values[n][i] = (int16_t)(x[0] + x[stride] + x[2 * stride] + x[3 * stride]);
    for (uint32_t p = 0; map && p < 2; p++)
      t->work.values[4 + p][i] = (int16_t)within(down(256 * map[3 * i + p], (int32_t)unit), 511);
  }
  add_second(t);
  weigh(t);
  believe(t);
  if (t->seconds < FIRST_S) t->seconds++;
}

void xmae_tracker_read(const xmae_tracker_t *t, xmae_tracked_t *tracked) {
  uint32_t best = 0, mass = 0, rates = 0, whole = 0;
  for (uint32_t k = 1; k < RATES; k++)
    if (t->belief[k] > t->belief[best]) best = k;
  for (uint32_t k = 0; k < RATES; k++) {
    whole += t->belief[k];
    if (k + AROUND < best || k > best + AROUND) continue;
    mass += t->belief[k], rates += t->belief[k] * (LOWEST + STEP * k);
  }
  uint32_t bpm = rates / mass, rest = rates % mass; /* 100 rates / mass, within 32 bits */
  tracked->rate = (uint16_t)(100 * bpm + 100 * rest / mass);
  tracked->certainty = (uint8_t)(t->seconds < FIRST_S ? 0 : mass * 255u / whole);
  tracked->given = t->seconds >= FIRST_S && tracked->certainty >= t->table->least;
  tracked->low = tracked->high = 0;
  if (!tracked->given) return;
  int32_t half = t->table->half_width[tracked->certainty / 16], low = tracked->rate - half,
          high = tracked->rate + half;
  tracked->low = (uint16_t)(low < 3000 ? 3000 : low);
  tracked->high = (uint16_t)(high > 22000 ? 22000 : high);
}
