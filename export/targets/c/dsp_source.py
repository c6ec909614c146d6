"""The tier without a network as a model for libxmae: a header and a file of tables."""

import zlib

import numpy as np

from xmae.beats.reader import MapCode
from xmae.beats.timing_map import LOG_SHARE
from xmae.export.targets.c.dsp import LOOK_AHEAD, SCALE, interval_codes
from xmae.export.targets.c.model_source import SPDX, VERSION, constant

MEMORY_BYTES = 496  # XMAE_DSP_BYTES


def dsp_texts(certainty):
    """Return the files of the tier without a network: {path in the package: text}.

    Parameters
    ----------
    certainty : Certainty
        Its table, such as `shipped_certainty("dsp")`.
    """
    code = MapCode.of_scale(SCALE, LOG_SHARE)
    tables = {
        "interval": code.interval.astype("<u2"),
        "half_width": np.asarray(certainty.half_width).astype("<u2"),
        "lag_code": interval_codes(),
    }
    crc = 0
    for table in tables.values():
        crc = zlib.crc32(table.tobytes(), crc)
    arrays = "".join(constant(name, table) for name, table in tables.items())
    blobs = "".join(f"  {{{name}, sizeof {name}}},\n" for name in tables)
    size = sum(table.nbytes for table in tables.values())
    return {
        "include/xmae/xmae_model_dsp.h": HEADER.format(spdx=SPDX, memory=MEMORY_BYTES, size=size),
        "models/xmae_model_dsp.c": SOURCE.format(
            spdx=SPDX, arrays=arrays, blobs=blobs, version=VERSION, memory=MEMORY_BYTES, crc=crc,
            unit=code.unit, look_ahead=LOOK_AHEAD, least=int(certainty.least),
        ),
    }  # fmt: skip


HEADER = """{spdx}/**
 * @file xmae_model_dsp.h
 * @brief The tier without a network: beats, heart rate and rhythm by autocorrelation and moving
 * averages. It gives no embeddings. Written by `xmae export --targets c`.
 */
#ifndef XMAE_MODEL_DSP_H
#define XMAE_MODEL_DSP_H

#include "xmae/xmae.h"

#ifdef __cplusplus
extern "C" {{
#endif

/** @brief Working memory of an instance, bytes. */
#define XMAE_MODEL_DSP_BYTES {memory}u
/** @brief The model: {size} bytes of tables in flash. */
extern const xmae_model_t xmae_model_dsp;

#ifdef __cplusplus
}}
#endif
#endif
"""

SOURCE = """{spdx}/* The tier without a network for libxmae. Written by `xmae export`. */
#include "xmae/xmae_model_dsp.h"
#include "xmae_internal.h"

/* clang-format off */
{arrays}
static const xmae_blob_t blobs[3] = {{
{blobs}}};

const xmae_model_t xmae_model_dsp = {{
  XMAE_MODEL_MAGIC, {version}u, 0u,
  0, interval, half_width, 0, 0, blobs,
  0u, 0u, 3u, 0u,
  {memory}u, 0u, 0u, 0u,
  0u, 0u, 0u, {crc}u,
  0u, 0, 0, 0,
  {unit}u, {look_ahead}u, {least}u,
  &xmae_dsp_engine, lag_code
}};
/* clang-format on */
"""
