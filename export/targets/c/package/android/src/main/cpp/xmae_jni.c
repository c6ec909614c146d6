/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* The calls of libxmae for xmae.PpgStream. What the library refuses, an IllegalArgumentException
 * says; the instance is then as it was. */
#include <jni.h>
#include <stdlib.h>

#include "xmae/xmae_model_@name@.h"

#define MODEL xmae_model_@name@
#define MODEL_BYTES XMAE_MODEL_@NAME@_BYTES
#define EMBED_BYTES XMAE_MODEL_@NAME@_EMBED_BYTES
#define EMBEDDING_SIZE XMAE_MODEL_@NAME@_EMBEDDING_SIZE
#define FIELDS 10 /* of a result, before its beats */

typedef struct {
  xmae_t stream;
  xmae_config_t config;
  uint32_t memory[MODEL_BYTES / 4 + 1], embed_memory[EMBED_BYTES / 4 + 1];
} instance_t;

static instance_t *instance_of(jlong handle) { return (instance_t *)(intptr_t)handle; }

static void refuse(JNIEnv *env, const char *why) {
  jclass type = (*env)->FindClass(env, "java/lang/IllegalArgumentException");
  if (type) (*env)->ThrowNew(env, type, why);
}

static const char *words_of(xmae_status_t status) {
  switch (status) {
    case XMAE_ERROR_RATE:
      return "rate out of range";
    case XMAE_ERROR_BITS:
      return "bits out of range";
    case XMAE_ERROR_HOP:
      return "hop out of range";
    case XMAE_ERROR_CODE:
      return "a code is out of range";
    case XMAE_ERROR_OVERRUN:
      return "more codes than there is room for: read first";
    default:
      return "libxmae refused the call";
  }
}

/* 0, which the library refuses, for what does not fit. */
static uint32_t within(jint value, uint32_t most) {
  return value < 0 || (uint32_t)value > most ? 0 : (uint32_t)value;
}

JNIEXPORT jlong JNICALL Java_xmae_PpgStream_open(JNIEnv *env, jclass type, jint rate, jint bits,
                                                 jboolean inverted, jint hop) {
  (void)type;
  instance_t *instance = calloc(1, sizeof *instance);
  if (!instance) {
    refuse(env, "no memory");
    return 0;
  }
  instance->config.model = &MODEL;
  instance->config.rate = within(rate, INT32_MAX);
  instance->config.bits = (uint8_t)within(bits, UINT8_MAX);
  instance->config.inverted = inverted ? 1 : 0;
  instance->config.hop_s = (uint16_t)within(hop, UINT16_MAX);
  xmae_status_t status =
      xmae_init(&instance->stream, &instance->config, instance->memory, sizeof instance->memory);
  if (status == XMAE_OK) return (jlong)(intptr_t)instance;
  free(instance);
  refuse(env, words_of(status));
  return 0;
}

JNIEXPORT void JNICALL Java_xmae_PpgStream_release(JNIEnv *env, jclass type, jlong handle) {
  (void)env, (void)type;
  free(instance_of(handle));
}

JNIEXPORT jint JNICALL Java_xmae_PpgStream_room(JNIEnv *env, jclass type, jlong handle) {
  (void)env, (void)type;
  return (jint)xmae_room(&instance_of(handle)->stream);
}

JNIEXPORT void JNICALL Java_xmae_PpgStream_push(JNIEnv *env, jclass type, jlong handle,
                                                jintArray codes, jint n, jint lost) {
  (void)type;
  if (!codes || n < 0 || lost < 0 || n > (*env)->GetArrayLength(env, codes)) {
    refuse(env, "no array, negative numbers, or more codes than the array has");
    return;
  }
  jint *values = (*env)->GetIntArrayElements(env, codes, 0);
  if (!values) return; /* Java has thrown OutOfMemoryError */
  xmae_status_t status =
      xmae_push(&instance_of(handle)->stream, values, (uint32_t)n, (uint32_t)lost);
  (*env)->ReleaseIntArrayElements(env, codes, values, JNI_ABORT);
  if (status != XMAE_OK) refuse(env, words_of(status));
}

JNIEXPORT jint JNICALL Java_xmae_PpgStream_read(JNIEnv *env, jclass type, jlong handle,
                                                jlongArray numbers) {
  (void)type;
  xmae_result_t r;
  jlong values[FIELDS + 2 * XMAE_MAX_BEATS];
  if (xmae_read(&instance_of(handle)->stream, &r) != XMAE_OK) return -1;
  const jlong fields[FIELDS] = {r.time,         r.rate,   r.low,  r.high,      r.certainty,
                                r.irregularity, r.rhythm, r.lost, r.saturated, r.reasons};
  for (int i = 0; i < FIELDS; i++) values[i] = fields[i];
  for (int i = 0; i < r.n_beats; i++) {
    values[FIELDS + 2 * i] = r.beats[i].time;
    values[FIELDS + 2 * i + 1] = r.beats[i].confidence;
  }
  (*env)->SetLongArrayRegion(env, numbers, 0, FIELDS + 2 * r.n_beats, values);
  return r.n_beats;
}

JNIEXPORT jboolean JNICALL Java_xmae_PpgStream_window(JNIEnv *env, jclass type, jlong handle,
                                                      jbyteArray window) {
  (void)type;
  int8_t samples[XMAE_WINDOW];
  if (xmae_copy_window(&instance_of(handle)->stream, samples) != XMAE_OK) return JNI_FALSE;
  (*env)->SetByteArrayRegion(env, window, 0, XMAE_WINDOW, samples);
  return JNI_TRUE;
}

JNIEXPORT jboolean JNICALL Java_xmae_PpgStream_embed(JNIEnv *env, jclass type, jlong handle,
                                                     jbyteArray embedding) {
  (void)type;
  instance_t *instance = instance_of(handle);
  int8_t codes[EMBEDDING_SIZE];
  if (xmae_embed(&instance->stream, instance->embed_memory, sizeof instance->embed_memory, codes,
                 sizeof codes) != XMAE_OK)
    return JNI_FALSE;
  (*env)->SetByteArrayRegion(env, embedding, 0, EMBEDDING_SIZE, codes);
  return JNI_TRUE;
}

JNIEXPORT jint JNICALL Java_xmae_PpgStream_embeddingSize(JNIEnv *env, jclass type) {
  (void)env, (void)type;
  return EMBEDDING_SIZE;
}
