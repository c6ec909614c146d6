/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/**
 * @file xmae.h
 * @brief libxmae: pulse beats, heart rate, rhythm hint and certainty from PPG, on a watch.
 *
 * Codes of the optical front end go in, in any portions; a result comes out every `hop_s` seconds.
 * All arithmetic is in whole numbers: the same codes give the same bits here, in Python
 * (`xmae.Stream`) and on every core.
 *
 * The library uses static memory only, no heap, no floating point, and of libc string.h and
 * stdint.h. It is reentrant by instance: calls for different instances may run at the same time,
 * calls for one instance may not. It never waits, and has no state of its own; models are
 * constants.
 *
 * After each error the instance is as it was before the call.
 */
#ifndef XMAE_H
#define XMAE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XMAE_VERSION_MAJOR 0 /**< First number of the version. */
#define XMAE_VERSION_MINOR 2 /**< Second number of the version. */
#define XMAE_VERSION_PATCH 0 /**< Third number of the version. */
/** @brief Version as text, such as "0.2.0". */
#define XMAE_VERSION "0.2.0"

#define XMAE_MIN_RATE 25000u  /**< Least rate of the codes, 1/1000 Hz: 25 Hz. */
#define XMAE_MAX_RATE 500000u /**< Greatest rate of the codes, 1/1000 Hz: 500 Hz. */
#define XMAE_MIN_BITS 8u      /**< Least width of a code, bits. */
#define XMAE_MAX_BITS 24u     /**< Greatest width of a code, bits. */
/** @brief Greatest time from one result to the next, s. */
#define XMAE_MAX_HOP_S 3600u
/** @brief Most beats in a result: 40, and 6 for each second of the hop. */
#define XMAE_MAX_BEATS 40
/** @brief Most channels of which codes come in turn. */
#define XMAE_MAX_CHANNELS 8u
/** @brief Samples of a window: the last 10 s at 100 Hz. */
#define XMAE_WINDOW 1000u
/** @brief What a time may be off without codes being lost or times going backwards, ms. */
#define XMAE_JITTER_MS 50
/** @brief Ticks a second: the unit of times. */
#define XMAE_TICKS_PER_SECOND 6400

/** @brief What a call returns: XMAE_OK, XMAE_EMPTY, or an error below zero. */
typedef enum {
  XMAE_OK = 0,              /**< Done. */
  XMAE_EMPTY = 1,           /**< No result is waiting. */
  XMAE_ERROR_NULL = -1,     /**< A pointer is NULL that must not be. */
  XMAE_ERROR_STATE = -2,    /**< The instance is not initialised. */
  XMAE_ERROR_MODEL = -3,    /**< What the configuration calls a model is none, or is damaged. */
  XMAE_ERROR_VERSION = -4,  /**< The model is made for another version of the library. */
  XMAE_ERROR_RATE = -5,     /**< The rate is not 25,000 to 500,000 mHz. */
  XMAE_ERROR_BITS = -6,     /**< The width is not 8 to 24 bits. */
  XMAE_ERROR_HOP = -7,      /**< The hop is not 1 to 3600 s. */
  XMAE_ERROR_MEMORY = -8,   /**< The memory is too small, or not aligned to 4 bytes. */
  XMAE_ERROR_CODE = -9,     /**< A code is negative or wider than the configured bits. */
  XMAE_ERROR_OVERRUN = -10, /**< A second result would be complete before the first one is read. */
  XMAE_ERROR_CHANNEL = -11, /**< More than XMAE_MAX_CHANNELS, or the channel is none of them. */
  XMAE_ERROR_TIME = -12,    /**< The time is before the end of the last codes. */
  XMAE_ERROR_SIZE = -13,    /**< The array for the embedding is too small. */
  XMAE_ERROR_HEAD = -14     /**< The model has no head of this number. */
} xmae_status_t;

/** @brief Reasons in xmae_result_t::reasons; a sum of these. */
typedef enum {
  XMAE_LOST = 1,      /**< Codes were lost in the last 10 s. */
  XMAE_SATURATED = 2, /**< Codes were at the converter's rail in the last 10 s. */
  XMAE_FLAT = 4,      /**< Nothing moved for 2 s; no heart rate. */
  XMAE_START = 8,     /**< Less than 10 s of signal so far; no heart rate. */
  XMAE_UNSURE = 16,   /**< Not sure enough; no heart rate. */
  XMAE_MIXED = 32     /**< The signal repeats after another time than the beats; no heart rate. */
} xmae_reason_t;

/** @brief Rhythm hint in xmae_result_t::rhythm. A hint, no diagnosis. */
typedef enum {
  XMAE_RHYTHM_UNKNOWN = 0,  /**< Too few sure intervals, or no heart rate. */
  XMAE_RHYTHM_REGULAR = 1,  /**< Nearly all intervals are like the one before. */
  XMAE_RHYTHM_ECTOPIC = 2,  /**< Most intervals are alike, some stand out. */
  XMAE_RHYTHM_IRREGULAR = 3 /**< Nearly every interval differs from the one before. */
} xmae_rhythm_t;

/** @brief A model: constants in flash, from a file xmae_model_NAME.c. Several may be in one image.
 */
typedef struct xmae_model xmae_model_t;

/** @brief How codes come, and how often results are wanted. May lie in flash; must live as long as
 * the instance. */
typedef struct {
  const xmae_model_t *model; /**< Such as &xmae_model_student_mcu. */
  uint32_t rate;             /**< Rate of the codes, 1/1000 Hz, XMAE_MIN_RATE to XMAE_MAX_RATE. */
  uint8_t bits; /**< Width of a code, XMAE_MIN_BITS to XMAE_MAX_BITS: codes are 0 to 2^bits - 1. */
  uint8_t inverted; /**< 0: codes rise in systole; else: they fall, as reflected light does. */
  uint16_t hop_s;   /**< Time from one result to the next, s, 1 to XMAE_MAX_HOP_S. */
  uint8_t channels; /**< Channels whose codes come in turn, to XMAE_MAX_CHANNELS; 0 is 1. */
  uint8_t channel;  /**< Which of them is read, from 0; the others are passed over. */
} xmae_config_t;

/** @brief A beat. */
typedef struct {
  int64_t time; /**< Ticks of 1/6400 s after output 0 of the model; see xmae_milliseconds(). */
  uint8_t confidence; /**< 0 to 255. */
} xmae_beat_t;

/** @brief What is known at the end of a hop. */
typedef struct {
  int64_t time;         /**< Ticks of 1/6400 s that the model has answered for. */
  uint16_t rate;        /**< Heart rate, 1/100 bpm, 3000 to 22000; 0: none is given. */
  uint16_t low, high;   /**< Holds it in nine of ten cases, 1/100 bpm; 0 without a rate. */
  uint16_t lost;        /**< Codes lost in the last 10 s. */
  uint16_t saturated;   /**< Codes at the converter's rail in the last 10 s. */
  int16_t irregularity; /**< Mean change of intervals over their mean, 1/1000; -1: too few. */
  uint8_t certainty;    /**< 0 to 255. */
  uint8_t rhythm;       /**< One of xmae_rhythm_t. */
  uint8_t reasons;      /**< Sum of xmae_reason_t. */
  uint8_t n_beats;      /**< Beats since the last result, 0 to XMAE_MAX_BEATS. */
  xmae_beat_t beats[XMAE_MAX_BEATS]; /**< The first n_beats of them, the newest last. */
} xmae_result_t;

/** @brief The front end's part of an instance. Private. */
typedef struct {
  uint64_t integral;      /* of the running sample: codes by the units of time they lasted */
  uint64_t base;          /* sum of 101 samples */
  uint32_t filled;        /* units of the running sample that are known */
  uint32_t factor;        /* of the running block */
  uint32_t samples[128];  /* the last ones; a ring */
  int32_t peaks[16];      /* of the last blocks; a ring */
  int32_t peak;           /* of the running block */
  uint8_t newest, seen;   /* place in the ring; samples seen, up to what the filters need */
  uint8_t block, n_block; /* place in the ring; samples in the running block */
} xmae_front_end_t;

/** @brief The beat reader's part of an instance. Private. */
typedef struct {
  int64_t time;                      /* ticks of the outputs read */
  xmae_beat_t beats[XMAE_MAX_BEATS]; /* the newest last; time -1: none */
  uint32_t length_sum, n_new;        /* n_new: beats since the last result */
  int16_t last_cosine, last_sine, last_log;
  uint8_t last_length, place, lengths[250];
} xmae_reader_t;

/** @brief An instance: about 2.6 kB. All fields are private; place it anywhere, zeroed or not. */
typedef struct {
  uint32_t ready_mark; /* says that the instance is initialised */
  const xmae_config_t *config;
  int8_t *memory;
  xmae_front_end_t front_end;
  xmae_reader_t reader;
  xmae_result_t result;
  uint32_t second_phase; /* of the last code, in its second */
  uint32_t next_ms;      /* when the next code is due, if `timed` */
  uint32_t samples_left; /* that the front end takes until the next result */
  int32_t last_code;     /* -1: none */
  uint16_t lost[10], saturated[10];
  uint16_t hop_left;
  uint16_t newest; /* place of the next sample in the window's ring */
  uint8_t second, n_samples, seconds, still, moved, timed, waiting;
  int8_t recent[250];                     /* the last 10 s at 25 Hz, the newest last */
  int16_t four;                           /* sum of the running four samples */
  const struct xmae_companion *companion; /* reads acceleration beside it; NULL: nothing does */
} xmae_t;

/**
 * @brief Set up an instance.
 * @param x        Instance; its contents do not matter.
 * @param config   Configuration; must stay valid and unchanged as long as the instance is used.
 * @param memory   Working memory of this instance, aligned to 4 bytes; stays in use.
 * @param bytes    Its size; at least xmae_memory_bytes(config->model), which is also the constant
 *                 XMAE_MODEL_NAME_BYTES of the model's header.
 * @return XMAE_OK, XMAE_ERROR_NULL, XMAE_ERROR_MODEL, XMAE_ERROR_VERSION, XMAE_ERROR_RATE,
 * XMAE_ERROR_BITS, XMAE_ERROR_HOP, XMAE_ERROR_CHANNEL or XMAE_ERROR_MEMORY.
 * @note Takes as long as five seconds of signal: the model looks at silence first.
 */
xmae_status_t xmae_init(xmae_t *x, const xmae_config_t *config, void *memory, uint32_t bytes);

/**
 * @brief Take codes.
 * @param x      Instance.
 * @param codes  Codes, 0 to 2^bits - 1, oldest first; of several channels, n times one of each. May
 * be NULL where n is 0.
 * @param n      How many of a channel.
 * @param lost   Codes that are missing before the first of these, such as those that a FIFO
 * overwrote. The last code known stands for them; before any is known, the first of these does, or
 * 0 if n is 0.
 * @return XMAE_OK, XMAE_ERROR_NULL, XMAE_ERROR_STATE, XMAE_ERROR_CODE, or XMAE_ERROR_OVERRUN where
 * n + lost is more than xmae_room(). After an error none of the codes was taken.
 */
xmae_status_t xmae_push(xmae_t *x, const int32_t *codes, uint32_t n, uint32_t lost);

/**
 * @brief Take codes with the time of the first one; what is missing since the last call counts as
 * lost.
 * @param x      Instance.
 * @param codes  As for xmae_push().
 * @param n      How many of a channel; where it is 0, nothing is done.
 * @param time   When the first of them was taken, ms, on a clock that wraps at 2^32. Gaps of more
 * than XMAE_JITTER_MS are lost codes; give shorter ones to xmae_push(). The first call after
 * xmae_init(), xmae_reset() or xmae_push() sets the clock.
 * @return As xmae_push(), or XMAE_ERROR_TIME where the time is more than XMAE_JITTER_MS before the
 * end of the codes that came last. A step of 2^31 ms (24.8 days) or more is a step back. After an
 * error none was taken.
 */
xmae_status_t xmae_push_at(xmae_t *x, const int32_t *codes, uint32_t n, uint32_t time);

/**
 * @brief Say how many codes may be pushed, lost ones included.
 * @param x  Instance.
 * @return Codes until one before those that complete a result more than can wait; 0 for NULL or an
 * instance that is not initialised.
 */
uint32_t xmae_room(const xmae_t *x);

/**
 * @brief Say whether a result is waiting.
 * @param x  Instance.
 * @return 1 if so, else 0; 0 for NULL or an instance that is not initialised.
 */
int xmae_ready(const xmae_t *x);

/**
 * @brief Take the result that is waiting.
 * @param x       Instance.
 * @param result  Where to; left alone unless XMAE_OK is returned.
 * @return XMAE_OK, XMAE_EMPTY, XMAE_ERROR_NULL or XMAE_ERROR_STATE.
 */
xmae_status_t xmae_read(xmae_t *x, xmae_result_t *result);

/**
 * @brief Copy the last 10 s as the network takes them: int8 at 100 Hz.
 * @param x       Instance.
 * @param window  XMAE_WINDOW samples, oldest first; left alone unless XMAE_OK is returned.
 * @return XMAE_OK, XMAE_EMPTY in the first 11 s, XMAE_ERROR_NULL or XMAE_ERROR_STATE.
 */
xmae_status_t xmae_copy_window(const xmae_t *x, int8_t *window);

/**
 * @brief Embed the last 10 s, for heads and for classifiers of your own. The instance does not
 * change.
 * @param x          Instance.
 * @param memory     Working memory for this call, aligned to 4 bytes; may serve other purposes
 * between calls.
 * @param bytes      Its size, at least XMAE_MODEL_NAME_EMBED_BYTES.
 * @param embedding  Codes of the embedding: real = XMAE_MODEL_NAME_EMBEDDING_SCALE x (code -
 *                   XMAE_MODEL_NAME_EMBEDDING_ZERO).
 * @param size       Its size, at least XMAE_MODEL_NAME_EMBEDDING_SIZE.
 * @return XMAE_OK, XMAE_EMPTY in the first 11 s, XMAE_ERROR_NULL, XMAE_ERROR_STATE,
 * XMAE_ERROR_MEMORY, XMAE_ERROR_SIZE, or XMAE_ERROR_MODEL for one without embeddings. After
 * anything but XMAE_OK the embedding is left alone.
 * @note Takes about as long as 10 s of signal.
 */
xmae_status_t xmae_embed(const xmae_t *x, void *memory, uint32_t bytes, int8_t *embedding,
                         uint32_t size);

/**
 * @brief Say how many heads a model has.
 * @param model  Model.
 * @return 0 if it has none, is NULL, no model, or one for another version.
 */
uint32_t xmae_heads(const xmae_model_t *model);

/**
 * @brief Say what a head is called.
 * @param model  Model.
 * @param head   From 0 to xmae_heads() - 1.
 * @return Name and units such as "hr (bpm)"; NULL if there is none.
 */
const char *xmae_head_name(const xmae_model_t *model, uint32_t head);

/**
 * @brief Say what a head makes of an embedding.
 * @param model      Model that made the embedding.
 * @param head       From 0 to xmae_heads() - 1; also XMAE_MODEL_NAME_HEAD_TASK.
 * @param embedding  From xmae_embed().
 * @param value      1/1000 of the head's units; of a head that decides, 1/1000 of the log-odds.
 * Left alone unless XMAE_OK is returned.
 * @return XMAE_OK, XMAE_ERROR_NULL, XMAE_ERROR_MODEL, XMAE_ERROR_VERSION or XMAE_ERROR_HEAD.
 */
xmae_status_t xmae_head(const xmae_model_t *model, uint32_t head, const int8_t *embedding,
                        int32_t *value);

/**
 * @brief Forget everything, as after a pause; the configuration stays.
 * @param x  Instance.
 * @return XMAE_OK, XMAE_ERROR_NULL or XMAE_ERROR_STATE.
 */
xmae_status_t xmae_reset(xmae_t *x);

/**
 * @brief Say how much working memory a model needs.
 * @param model  Model.
 * @return Bytes; 0 if it is NULL, no model, or one for another version.
 */
uint32_t xmae_memory_bytes(const xmae_model_t *model);

/**
 * @brief Compare a model with its checksum: CRC-32 of all its numbers.
 * @param model  Model.
 * @return XMAE_OK, XMAE_ERROR_NULL, XMAE_ERROR_MODEL or XMAE_ERROR_VERSION.
 */
xmae_status_t xmae_check_model(const xmae_model_t *model);

/**
 * @brief Turn ticks of a result or a beat into time on the clock of the codes.
 * @param x      Instance, initialised.
 * @param ticks  Ticks.
 * @return Milliseconds after the first code was taken, rounded down; 0 for NULL or an instance that
 * is not initialised.
 */
int64_t xmae_milliseconds(const xmae_t *x, int64_t ticks);

/**
 * @brief Say which version of the library is linked.
 * @return XMAE_VERSION.
 */
const char *xmae_version(void);

#ifdef __cplusplus
}
#endif
#endif
