"""`xmae demo`: the whole way on the shipped recordings, from raw ECG and PPG to an int8 bundle that
reads beats, its drift gate, and how far off it is on people that its timing never saw.
"""

import shutil
import time
from pathlib import Path

from tqdm import tqdm

from xmae.files import write_json

PROVENANCE = {
    "Data": "BIDMC PPG and Respiration Dataset 1.0.0 (Pimentel et al. 2017, "
    "doi:10.1109/TBME.2016.2613124; PhysioNet, "
    "Goldberger et al. 2000), a modified excerpt under the Open Data Commons Attribution License "
    "1.0. ICU patients at "
    "rest: not wearable data; the delay from ECG to PPG includes the monitor's own processing.",
    "Weights": "The teacher goes on from the shipped base, which never saw these people, "
    "on the training subjects and on generated people (xmae twin). The student's timing is that "
    "of the shipped beats-mcu, which never saw these people; its embedding was distilled in this "
    "run. Generated people are in no result.",
}


def demo(out: str = "runs/demo", quick: bool = False, seed: int = 77) -> dict:
    """Run the whole pipeline on the shipped BIDMC recordings and generated people: prepare,
    pretrain, distill, export, read, gate.

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
        `summary` (the verdict), `passed` (the drift gate; if not, the exit code is 1), seconds of
        each step, and "out": the report.
    """
    from xmae.benchmarks.report.page import summary_lines, write_report
    from xmae.native import one_thread

    out = Path(out)
    steps = steps_of(out, quick, seed)
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
        "passed": results["validate"]["passed"],
        "seconds": seconds,
        "out": str(report),
    }
    write_json(out / "metrics.json", result)
    return result


def steps_of(out, quick, seed):
    """Return the steps of the demo by name, each a function without arguments."""
    from xmae.benchmarks.validate import validate
    from xmae.data.prepare.prepare import prepare
    from xmae.distill.distill import distill
    from xmae.export.export import export
    from xmae.training.pretrain import pretrain

    epochs, crops, student_epochs = (1, 640, 2) if quick else (2, 5120, 36)
    store, teacher, student = (
        str(out / name)
        for name in ("store", "pretrain/encoder.safetensors", "distill/student.safetensors")
    )
    return {
        "prepare": lambda: prepare(["bidmc"], store, min_quality=-1),
        "pretrain": lambda: pretrain(
            store, str(out / "pretrain"), method="xmae-timing", size="small", init="base",
            epochs=epochs, batch_size=32, lr=3e-4, seed=seed,
            options={"steps": 20 if quick else 100},
        ),
        "distill": lambda: distill(
            teacher, store, str(out / "distill"), tier="beats-mcu", crops=crops,
            epochs=student_epochs, seed=seed
        ),
        "export": lambda: export(teacher, student, store, str(out / "bundle")),
        "read": lambda: read(out / "bundle", student, store, out / "beats.png"),
        "validate": lambda: validate(str(out / "bundle"), store, str(out / "validate")),
    }  # fmt: skip


def read(bundle, student, store, picture):
    """Read all people of the store with the bundle's int8 student and with its float weights."""
    from xmae.evaluation.read_people import read_people
    from xmae.export.bundle.bundle import Bundle
    from xmae.export.int8_reader import Int8Reader
    from xmae.models.checkpoint import load_encoder

    bundle = Bundle.open(bundle)
    models = {
        "watch, int8": Int8Reader(bundle.path / bundle.entry("student", "litert", "int8").file),
        "watch, fp32": load_encoder(student),
    }
    result = read_people(store, models, picture)
    write_json(Path(picture).parent / "read.json", result)
    return result
