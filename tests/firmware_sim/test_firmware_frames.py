"""Result frames: whole ones are found in any stream, damaged ones never are; both sides know the
same ones.
"""

import re
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmae.firmware_sim.build.compile import compile_host
from xmae.firmware_sim.build.generate import SOURCES
from xmae.firmware_sim.frame import (
    BOOT,
    INPUT,
    RESULT,
    Boot,
    Input,
    Result,
    Status,
    frame_bytes,
    parse_frames,
)
from xmae.firmware_sim.frontend import LOST_SHIFT, SATURATED


def result_bytes(sequence=3, status=0, heads=(72.5, -0.25), embedding=bytes(range(8))):
    fixed = struct.pack("<IIHHHHH", sequence, 13000, status, 2, 1, len(heads), len(embedding))
    return frame_bytes(RESULT, fixed + struct.pack(f"<{len(heads)}f", *heads) + embedding)


def test_fields_of_each_kind():
    boot = frame_bytes(BOOT, struct.pack("<HI", 64 | 0x8000, 0xDEADBEEF))
    boot, result, seen = parse_frames(boot + result_bytes() + frame_bytes(INPUT, b"\x80\x7f"))
    assert boot == Boot(Status.BAD_FLASH | Status.INVALID, 0xDEADBEEF)
    assert (result.sequence, result.start_ms, result.lost, result.saturated, result.valid) == (
        3,
        13000,
        2,
        1,
        True,
    )
    assert result.heads.tolist() == [72.5, -0.25] and result.embedding.tolist() == list(range(8))
    assert isinstance(seen, Input) and seen.codes.tolist() == [-128, 127]


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(stream):
    assert isinstance(parse_frames(stream), list)


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=4),
    st.lists(st.integers(0, 2**32 - 1), max_size=3),
)
def test_whole_frames_are_found_between_noise(noise, numbers):
    """A false sync in the noise may hide nothing: its CRC fails and the search goes on right behind
    it.
    """
    stream = noise[0]
    for number, more in zip(numbers, noise[1:] + [b""] * 3, strict=False):
        stream += result_bytes(sequence=number) + more
    assert [
        frame.sequence for frame in parse_frames(stream) if isinstance(frame, Result)
    ] == numbers


@given(st.data())
def test_a_damaged_frame_is_never_returned(data):
    frame = bytearray(result_bytes())
    for position in data.draw(
        st.lists(st.integers(0, 8 * len(frame) - 1), min_size=1, max_size=3, unique=True)
    ):
        frame[position // 8] ^= 1 << position % 8
    assert parse_frames(bytes(frame)) == []


@given(st.integers(0, 10**6))
def test_a_cut_frame_is_never_returned_and_hides_no_other(cut):
    whole = result_bytes(sequence=9)
    cut %= len(whole)
    assert [frame.sequence for frame in parse_frames(whole[:cut] + result_bytes(sequence=10))] == [
        10
    ]


@pytest.mark.parametrize("n_heads", [1, 3])
def test_lengths_that_contradict_are_refused(n_heads):
    payload = (
        struct.pack("<IIHHHHH", 0, 0, 0, 0, 0, n_heads, 4)
        + np.zeros(2, "<f4").tobytes()
        + b"\0\0\0\0"
    )
    assert parse_frames(frame_bytes(RESULT, payload)) == []


def test_both_sides_know_the_same_words_flags_and_frames():
    fifo, frame = ((SOURCES / name).read_text() for name in ("fifo.h", "frame.h"))
    shifts = dict(re.findall(r"#define WORD_(\w+)\(word\) \(\(word\) >> (\d+) & \d+u\)", fifo))
    assert shifts == {"SATURATED": str(SATURATED.bit_length() - 1), "LOST": str(LOST_SHIFT)}
    flags = re.search(r"enum status \{(.*?)\};", frame, re.DOTALL).group(1)
    assert {name: int(value, 0) for name, value in re.findall(r"(\w+) = (\w+),", flags)} == {
        flag.name: flag.value for flag in Status
    }


FRAME = """
#include "board.h"
#include "frame.h"
void board_write(const void *bytes, uint32_t n) { (void)bytes, (void)n; }
int main(void) {
    static const int8_t many[EMBEDDING_N], input[WINDOW_N];
    const struct result result = {.n_embedding = EMBEDDING_N};
    frame_result(&result, 0, many);
    frame_input(input);
    return 0;
}
"""


@pytest.mark.parametrize("embedding_n", [8, 2000])
def test_the_longest_frame_fits_its_buffer(tmp_path, embedding_n):
    (tmp_path / "watch_config.h").write_text(
        "#define TRACE 1\n#define WINDOW_N 1000\n#define N_HEADS 0\n#define EMBEDDING_N "
        f"{embedding_n}\n"
    )
    (tmp_path / "main.c").write_text(FRAME)
    sources = [tmp_path / "main.c", SOURCES / "frame.c"]
    program = compile_host(
        sources, tmp_path / "frame", include=[tmp_path], shared=False, sanitize=True
    )
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
