"""Hold an exported bundle against float weights, as CI does before a release."""

import sys

import xmae


def main():
    """Return the exit code: 0 if the bundle passes, 1 if it drifted."""
    xmae.prepare(["bidmc"], "store", min_quality=-1, jobs=1)  # split as the encoders were trained
    xmae.export("student-mcu", ["student-mcu-s"], "store", "bundle", targets="litert,onnx",
                n_calibration=64)  # fmt: skip

    # fails where embeddings, heart rate or AUROC changed more than the limits allow
    gate = xmae.validate("bundle", "store", "drift", windows=16, rounds=1)
    print("\n".join(gate["summary"]))
    return 0 if gate["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
