"""`xmae demo`: the whole way on the shipped recordings, from raw ECG and PPG to an int8 bundle with its drift report."""

import time
from pathlib import Path

from tqdm import tqdm

from xmae.files import write_json


def demo(out: str = "runs/demo", quick: bool = False, seed: int = 77) -> dict:
    """Run the whole way on the shipped BIDMC recordings: prepare, pretrain, probe, distill, quantize, export, bench, gate.

    Parameters
    ----------
    out : str
        Run folder; ends with report.html in it.
    quick : bool
        The same way with little training, in under 3 minutes on 2 cores: shows that it works, not how well.
    seed : int
        Seed of everything random.

    Returns
    -------
    dict
        `summary` (five lines), `passed` (the drift gate), seconds of each step, and "out": the report.
    """
    from xmae.benchmarks.bench import bench
    from xmae.benchmarks.drift import validate
    from xmae.benchmarks.report import write_report
    from xmae.data.prepare import prepare
    from xmae.distill.distill import distill
    from xmae.evaluation.probe import probe
    from xmae.export.build import export
    from xmae.quantize import quantize
    from xmae.training.pretrain import pretrain

    out = Path(out)
    store, bundle = str(out / "store"), str(out / "bundle")
    size = (
        {"epochs": 3, "crops": 1000, "student_epochs": 8}
        if quick
        else {"epochs": 90, "crops": 8000, "student_epochs": 20}
    )
    steps = {
        "prepare": lambda: prepare(["bidmc"], out=store, min_quality=-1),
        "pretrain": lambda: pretrain(
            store, str(out / "pretrain"), size="small", epochs=size["epochs"], batch_size=32, lr=1e-3,
            patience=size["epochs"], seed=seed,
        ),
        "probe": lambda: probe(results["pretrain"]["encoder"], store, str(out / "probe"), seed=seed),
        "distill": lambda: distill(
            results["pretrain"]["encoder"], store, str(out / "distill"), crops=size["crops"],
            epochs=size["student_epochs"], seed=seed,
        ),
        "quantize": lambda: quantize(results["distill"]["student"], store, str(out / "quantize"), seed=seed),
        "export": lambda: export(results["pretrain"]["encoder"], results["distill"]["student"], store, bundle),
        "bench": lambda: bench(bundle, store, str(out / "bench"), record_reference=True),
        "validate": lambda: validate(bundle, store, str(out / "validate"), reference=results["bench"]["reference"]),
    }  # fmt: skip
    results, seconds = {}, {}
    bar = tqdm(steps.items(), unit="step")
    for name, step in bar:
        bar.set_description(name)
        started = time.time()
        results[name] = step()
        seconds[name] = round(time.time() - started, 1)
    report = write_report(results, out)
    result = {"summary": [], "passed": results["validate"]["passed"], "seconds": seconds, "out": str(report)}
    write_json(out / "metrics.json", result)
    return result
