"""What a verb says in the end: whether what came out is good, and against what."""

import pytest

from xmae.cli.verdict import MOST_LINES, verdict

TRAINED = {
    "epochs": 3, "windows_seen": 3000, "seconds": 90.0, "device": "cpu", "val_loss": 0.4,
    "history": {"val_loss": [1.0, 0.6, 0.4]}, "out": "run",
}  # fmt: skip


def test_training():
    lines = verdict("pretrain", TRAINED | {"encoder": "run/encoder.safetensors"})
    assert "3,000 windows in 1.5 min" in lines[0] and "1 after the first epoch, 0.4" in lines[1]
    assert not any("warning" in line for line in lines) and len(lines) <= MOST_LINES
    flat = TRAINED | {"history": {"val_loss": [0.41, 0.4]}, "val_ratio": 1.01}
    assert sum(line.startswith("warning") for line in verdict("pretrain", flat)) == 2
    stopped = verdict("pretrain", TRAINED | {"finished": False})
    assert stopped == [
        "warning: stopped before the end after 3 epochs; the same command with --resume goes on"
    ]


@pytest.mark.parametrize(
    ("cosine", "said"), [(0.03, "warning"), (0.6, "part of the teacher is lost"), (0.9, "good")]
)
def test_a_student(cosine, said):
    lines = verdict("distill", TRAINED | {"centred_cosine": cosine})
    assert said in lines[-1] and f"{cosine:.2f}" in lines[-1]
    assert said in verdict("distill", TRAINED | {"distances": cosine})[-1]


def test_int8():
    rows = [
        {"format": "litert", "centred_cosine_median": 0.99},
        {"format": "onnx", "centred_cosine_median": 0.7},
    ]
    lines = verdict("quantize", {"formats": rows, "calibration_windows": 64, "out": "q"})
    assert lines[1].startswith("litert") and lines[2].startswith("warning: onnx")
    better = {"cosine_to_float": 0.99, "cosine_to_float_before": 0.95}
    assert verdict("qat", TRAINED | better)[-1].startswith("cosine of int8 to float 0.9900")


def test_a_summary_of_its_own_counts(tmp_path):
    assert verdict("embed", {"summary": ["12 windows"], "windows_seen": 1}) == ["12 windows"]
    page = tmp_path / "curve.md"
    page.write_text("# Curve\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    assert verdict("curve", {"out": str(page)}) == ["| a | b |", "| 1 | 2 |"]
    assert verdict("data example", {"out": str(tmp_path)}) == []
