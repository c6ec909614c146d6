"""`xmae demo`: the whole way on the shipped recordings, from raw ECG and PPG to an int8 bundle and
its drift report.
"""

import shutil
import time
from pathlib import Path

from tqdm import tqdm

from xmae.files import write_json

PROVENANCE = {
    "Data": "BIDMC PPG and Respiration Dataset 1.0.0 (Pimentel et al. 2017, doi:10.1109/TBME.2016.2613124; PhysioNet, "
    "Goldberger et al. 2000), a modified excerpt under the Open Data Commons Attribution License 1.0. ICU patients at "
    "rest: not wearable data; the delay from ECG to PPG includes the monitor's own processing.",
    "Weights": "Trained from scratch in this run, on the training subjects only.",
}


def demo(out: str = "runs/demo", quick: bool = False, seed: int = 77) -> dict:
    """Run the whole way on the shipped BIDMC recordings: prepare, pretrain, probe, distill,
    quantize, export, gate.

    Parameters
    ----------
    out : str
        Run folder; ends with report.html in it.
    quick : bool
        The same way with little training, in under 3 minutes on 2 free cores: shows that it works,
        not how well.
    seed : int
        Seed of everything random.

    Returns
    -------
    dict
        `summary` (five lines), `gate_passed` (the drift gate), seconds of each step, and "out": the
        report.
    """
    from xmae.benchmarks.report.page import summary_lines, write_report
    from xmae.benchmarks.validate import validate
    from xmae.data.prepare.prepare import prepare
    from xmae.distill.distill import distill
    from xmae.evaluation.probe import probe
    from xmae.export.export import export
    from xmae.export.int8 import quantize
    from xmae.native import one_thread
    from xmae.training.pretrain import pretrain

    epochs, crops, student_epochs, n_calibration = (
        (2, 1280, 6, 64) if quick else (36, 5120, 25, 256)
    )
    out = Path(out)
    store, teacher, student = (
        str(out / name)
        for name in ("store", "pretrain/encoder.safetensors", "distill/student.safetensors")
    )
    steps = {
        "prepare": lambda: prepare(["bidmc"], store, min_quality=-1),
        "pretrain": lambda: pretrain(
            store, str(out / "pretrain"), size="small", epochs=epochs, batch_size=32, lr=1e-3, patience=epochs,
            keep="last", seed=seed,
        ),
        "distill": lambda: distill(teacher, store, str(out / "distill"), crops=crops, epochs=student_epochs, seed=seed),
        "probe": lambda: [
            probe(model, store, str(out / name), seed=seed)
            for name, model in (("probe_teacher", teacher), ("probe_student", student))
        ],
        "quantize": lambda: quantize(student, store, str(out / "quantize"), n_calibration, seed, targets="executorch"),
        "export": lambda: export(
            teacher, student, store, str(out / "bundle"), calibration=str(out / "quantize" / "calibration.npz")
        ),
        "validate": lambda: validate(str(out / "bundle"), store, str(out / "validate")),
    }  # fmt: skip
    for trained in (out / "pretrain", out / "distill"):
        if (trained / "config.json").is_file():  # of an earlier demo
            shutil.rmtree(trained)
    results, seconds = {"provenance": PROVENANCE}, {}
    # such small batches gain little from a second thread, and lose much on a busy machine
    with one_thread():
        for name, step in (bar := tqdm(steps.items(), unit="step")):
            bar.set_description(f"demo: {name}")
            started = time.time()
            results[name] = step()
            seconds[name] = round(time.time() - started, 1)
    report = write_report(results, out)
    result = {
        "summary": summary_lines(results),
        "gate_passed": results["validate"]["passed"],
        "seconds": seconds,
        "out": str(report),
    }
    write_json(out / "metrics.json", result)
    return result
