/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/**
 * @file xmae_motion.h
 * @brief A heart rate on a moving wrist: PPG beside three axes of acceleration.
 *
 * As xmae.h, with acceleration pushed before the PPG of the same time. At rest the beats decide,
 * and in motion where a belief over heart rate agrees. Else the belief decides if it is sure; else
 * nothing is said. In motion no hint of a rhythm is given. The same bits as `xmae.MotionStream`. No
 * heap; about 27 kB an instance, and the model's memory.
 */
#ifndef XMAE_MOTION_H
#define XMAE_MOTION_H

#include "xmae/xmae.h"
#include "xmae/xmae_tracker.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Samples at 100 Hz that acceleration may be ahead of the PPG. */
#define XMAE_MOTION_AHEAD 400u
#define XMAE_MIN_ONE_G 16u         /**< Least number of codes for 1 g. */
#define XMAE_MAX_ONE_G 65536u      /**< Greatest number of codes for 1 g. */
#define XMAE_NO_ACCELEROMETER (-1) /**< Activity where no acceleration ever came. */

/** @brief How codes come. Must live as long as the instance. */
typedef struct {
  xmae_config_t ppg;                 /**< As for xmae_init(); its model takes PPG and three axes. */
  const xmae_tracker_table_t *table; /**< Of the model's file; no checksum covers it. */
  uint32_t acc_rate; /**< Rate of acceleration, 1/1000 Hz, XMAE_MIN_RATE to XMAE_MAX_RATE. */
  uint32_t one_g;    /**< Codes for 1 g, XMAE_MIN_ONE_G to XMAE_MAX_ONE_G. */
} xmae_motion_config_t;

/** @brief What is known at the end of a hop. */
typedef struct {
  /** As of xmae_read(); rate and interval are those that beats and belief make together. */
  xmae_result_t result;
  int16_t activity;  /**< Largest movement of the last 4 s, 1/1000 g, or XMAE_NO_ACCELEROMETER. */
  uint16_t followed; /**< Heart rate that the belief holds likeliest, 1/100 bpm, given or not. */
  uint8_t belief;    /**< How sure it is, 0 to 255. */
} xmae_motion_result_t;

/** @brief An instance. All fields are private; place it anywhere. */
typedef struct {
  xmae_t stream; /* first: the stream calls back with its address */
  const xmae_motion_config_t *config;
  xmae_tracker_t tracker;
  xmae_front_end_t front_ends[3];
  int32_t peaks[32];                 /* of blocks of 0.25 s, by their number; a ring */
  int32_t peak, one_g;               /* of the running block; deviations of 1 g */
  uint32_t factor;                   /* of the running block */
  uint32_t n_samples, n_seconds;     /* of acceleration; of PPG */
  int8_t axes[XMAE_MOTION_AHEAD][3]; /* by number; a ring */
  int8_t samples[400];               /* of the running second: PPG and axes */
  int16_t map[75], activity;
  uint16_t followed;
  uint8_t belief, worn;
} xmae_motion_t;

/**
 * @brief Set up an instance.
 * @param m        Instance; its contents do not matter.
 * @param config   Configuration; must stay valid and unchanged as long as the instance is used.
 * @param memory   Working memory of this instance, aligned to 4 bytes; stays in use.
 * @param bytes    Its size; at least xmae_memory_bytes(config->ppg.model).
 * @return As xmae_init(); also XMAE_ERROR_MODEL where the model takes no acceleration
 * or the table is of an older version, XMAE_ERROR_RATE for the rate of acceleration, and
 * XMAE_ERROR_BITS for the codes of 1 g.
 */
xmae_status_t xmae_motion_init(xmae_motion_t *m, const xmae_motion_config_t *config, void *memory,
                               uint32_t bytes);

/**
 * @brief Forget everything, as after a pause. Calls for streams that only look, such as
 * xmae_room(), take &m->stream; xmae_reset() must not, as it would end the instance.
 * @param m  Instance.
 * @return XMAE_OK, XMAE_ERROR_NULL or XMAE_ERROR_STATE.
 */
xmae_status_t xmae_motion_reset(xmae_motion_t *m);

/**
 * @brief Take acceleration, before the PPG of the same time.
 * @param m      Instance.
 * @param codes  n times three axes, each less than 2^24 in size.
 * @param n      How many times.
 * @return XMAE_OK, XMAE_ERROR_NULL, XMAE_ERROR_STATE, XMAE_ERROR_CODE, or XMAE_ERROR_OVERRUN where
 * they would be more than XMAE_MOTION_AHEAD ahead. After an error none of the codes was taken.
 * @note What has not come when a second of PPG is complete counts as no movement.
 */
xmae_status_t xmae_motion_accelerate(xmae_motion_t *m, const int32_t *codes, uint32_t n);

/**
 * @brief Take codes of PPG: as xmae_push().
 * @param m      Instance.
 * @param codes  As of xmae_push().
 * @param n      As of xmae_push().
 * @param lost   As of xmae_push().
 * @return As of xmae_push(); XMAE_ERROR_STATE also after xmae_reset() of its stream.
 */
xmae_status_t xmae_motion_push(xmae_motion_t *m, const int32_t *codes, uint32_t n, uint32_t lost);

/**
 * @brief Take the result that is waiting: as xmae_read().
 * @param m       Instance.
 * @param result  Where to; left alone unless XMAE_OK is returned.
 * @return As of xmae_read().
 */
xmae_status_t xmae_motion_read(xmae_motion_t *m, xmae_motion_result_t *result);

#ifdef __cplusplus
}
#endif
#endif
