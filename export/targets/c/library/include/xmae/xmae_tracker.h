/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/**
 * @file xmae_tracker.h
 * @brief What an instance of xmae_motion.h holds for its belief over heart rate; there is nothing
 * to call. About 20 kB, no heap.
 */
#ifndef XMAE_TRACKER_H
#define XMAE_TRACKER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XMAE_TRACKER_RATES 96  /**< 30 to 220 bpm in steps of 2. */
#define XMAE_TRACKER_SPAN 10   /**< Seconds of a spectrum. */
#define XMAE_TRACKER_VALUES 25 /**< Values a second. */
#define XMAE_TRACKER_LEVELS 16 /**< Of what the timing map and the PPG say for a rate. */
#define XMAE_TRACKER_REACH 6   /**< Steps of the grid that a belief moves within a second. */

/** @brief What a tracker knows; constants in flash. */
typedef struct {
  /** Likelihood by levels of map and PPG. */
  uint16_t evidence[XMAE_TRACKER_LEVELS][XMAE_TRACKER_LEVELS];
  uint16_t transition[XMAE_TRACKER_REACH + 1]; /**< Of 4096, on each side. */
  uint16_t half_width[16];                     /**< Of the interval by certainty / 16, 1/100 bpm. */
  uint16_t lean;    /**< bpm, at most 1000: what is left of the PPG counts by the rate plus this. */
  uint8_t quarters; /**< Of the normalised spectrum of the acceleration that are taken off. */
  uint8_t least;    /**< Certainty from which a heart rate is given. */
} xmae_tracker_table_t;

/** @brief Sums of the last seconds of one signal. Private. */
typedef struct {
  int16_t blocks[XMAE_TRACKER_SPAN][XMAE_TRACKER_RATES][2];
} xmae_spectra_t;

/** @brief A tracker. Private. */
typedef struct {
  const xmae_tracker_table_t *table;
  xmae_spectra_t map, ppg, acc[3];
  uint16_t belief[XMAE_TRACKER_RATES];
  uint16_t likely[XMAE_TRACKER_RATES];
  union {                                   /* working memory of a second */
    int16_t values[6][XMAE_TRACKER_VALUES]; /* PPG, three axes, cosine and sine of the map */
    uint16_t levels[2][XMAE_TRACKER_RATES]; /* PPG, acceleration */
    struct {
      uint32_t next[XMAE_TRACKER_RATES];
      uint16_t before[XMAE_TRACKER_RATES + 2 * XMAE_TRACKER_REACH]; /* the belief, between zeros */
    } spread;
  } work;
  uint16_t place;  /* of the next value within a turn */
  uint8_t newest;  /* block that the next second goes to */
  uint8_t seconds; /* taken, up to 10 */
} xmae_tracker_t;

#ifdef __cplusplus
}
#endif
#endif
