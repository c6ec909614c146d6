"""`xmae adopt`: an encoder of others becomes a teacher, its student a gated bundle for a watch."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from xmae.benchmarks.validate import validate
from xmae.distill.beats import BEATS
from xmae.distill.distill import CROPS, EPOCHS, TOKEN_WEIGHT, distill
from xmae.errors import UserError
from xmae.export.export import export
from xmae.files import write_json
from xmae.models.adopted.adopt import open_foreign
from xmae.models.adopted.contract import Contract
from xmae.models.adopted.encoder import ProgramEncoder
from xmae.models.checkpoint import is_foreign, load_encoder, save_encoder


def adopt(
    file: str,
    out: str = "runs/adopt",
    architecture: str | None = None,
    spec: str | None = None,
    licence: str | None = None,
    data: str | None = None,
    tier: str = "beats-mcu",
    crops: int = CROPS,
    epochs: int = EPOCHS,
    batch_size: int = 128,
    targets: str = "litert,c",
    n_calibration: int = 256,
    min_agreement: float = 0.5,
    seed: int = 77,
) -> dict:
    """Adopt a published encoder, or any program, as a teacher; with a store, take it to the watch.

    Without `data` only the teacher is written: a file that every verb takes for an encoder. With
    it, a student learns from it, is quantized and exported, and has to pass two gates: int8 against
    the float student (that of `xmae validate`), and the student against this teacher. Exit code 1
    if one is not passed. After a stop, the same call goes on from the last checkpoint.

    Parameters
    ----------
    file : str
        Checkpoint (of torch.save or safetensors) of a published architecture; a program (.onnx,
        .pt2 of torch.export, .ts or .pt of TorchScript); a teacher.safetensors of this verb; or
        "random": random weights, to try the way.
    out : str
        Run folder: teacher.safetensors, and with `data` student/, bundle/, validate/, adopt.json.
    architecture : str
        papagei-s, papagei-p, papagei-svri, pulse-ppg, anyppg or normwear; none for a program.
    spec : str
        Of a program: YAML file with what it hears and gives (sfreq in Hz, length_s, scaling,
        channels, band_hz, output, layout); see docs/adopt.md.
    licence : str
        Licence of the weights, such as CC-BY-4.0; goes into the provenance of the student.
    data : str
        Store to distil, calibrate and judge on.
    tier : str
        The student: "beats-mcu-s", "beats-mcu" and "beats-app" have the beats, rate and rhythm of
        our shipped student of that name and learn an embedding beside them; "mcu-s", "mcu" and
        "app" have an embedding alone.
    crops : int
        Random 10 s crops of PPG that the teacher answers once.
    epochs : int
        Passes of the student over the crops.
    batch_size : int
        Crops a step.
    targets : str
        Formats of the bundle, separated by commas; see `xmae export`.
    n_calibration : int
        Windows (10 s each) that set the int8 ranges.
    min_agreement : float
        Lowest mean cosine of student and teacher, centred, on validation subjects; our own students
        have 0.79 to 0.85.
    seed : int
        Seed of everything random.

    Returns
    -------
    dict
        `teacher` (its file), `embed_dim`, `contract` (with what of its band is lost),
        `agreement`, `beats` (whose timing the student has, null if it reads none), `gates` ({gate:
        passed}), `bundle`, `passed`; "out".

    Raises
    ------
    UserError
        If the file cannot be read safely or is not of that architecture, its contract asks for what
        a window does not hold, no licence is given, or the folder is of another teacher.
    """
    encoder = opened(file, architecture, spec, licence, seed)
    out = Path(out)
    teacher = str(out / "teacher.safetensors")
    keep_teacher(encoder, out, teacher)
    result = {
        "teacher": teacher, "embed_dim": encoder.embed_dim,
        "licence": encoder.provenance["licence"], "contract": encoder.provenance["contract"],
    }  # fmt: skip
    summary = [describe(result)]
    if data:
        settings = {
            "tier": tier,
            "crops": crops,
            "epochs": epochs,
            "batch_size": batch_size,
            "seed": seed,
        }
        took = take_to_watch(encoder, teacher, data, out, targets, n_calibration, settings)
        result |= {key: took[key] for key in ("agreement", "beats", "student", "bundle")}
        agrees = took["agreement"] >= min_agreement
        result["gates"] = {"int8": took["validate"]["passed"], "teacher": agrees}
        result["passed"] = all(result["gates"].values())
        word = "is at least" if agrees else "is below"
        summary += took["validate"]["summary"]
        summary += [f"agreement with the teacher {took['agreement']:.3f} {word} {min_agreement:g}"]
        summary += [f"beats, rate and rhythm: those of {took['beats']}"] if took["beats"] else []
    write_json(out / "adopt.json", result)
    return result | {"summary": summary, "out": str(out)}


def opened(file, architecture, spec, licence, seed):
    """Open a teacher: an adopted one from its file, others by `open_foreign`."""
    contract = Contract.load(spec) if spec else None
    if contract and architecture:
        raise UserError(f"--spec {spec}: {architecture} brings its own contract; leave one out")
    kind = kind_of(file)
    if architecture or contract or kind is None:
        return open_foreign(file, architecture, contract, licence, seed)
    encoder = load_encoder(file)
    if not is_foreign(encoder):
        raise UserError(f"{file}: an encoder of xMAE already; xmae distill makes students of it")
    stated = encoder.provenance["licence"]
    if licence not in (None, stated):
        raise UserError(f"{file}: adopted with the licence {stated}; adopt it anew to change that")
    return encoder


def kind_of(file):
    """Return the kind of an encoder that xMAE wrote, as its file's header says; None of others."""
    try:
        with safe_open(file, "pt") as opened_file:
            return (opened_file.metadata() or {}).get("kind")
    except (OSError, SafetensorError):
        return None


def keep_teacher(encoder, out, teacher):
    """Write the teacher; raises a `UserError` if the folder has the student of another."""
    before = load_encoder(teacher).provenance if Path(teacher).is_file() else None
    if (out / "student").is_dir() and before != encoder.provenance:
        raise UserError(f"{out} holds the student of another teacher; name another folder")
    save_encoder(encoder, teacher, encoder.provenance)


def take_to_watch(
    encoder, teacher, data, out, targets, n_calibration, settings, precisions="fp32,int8"
):
    """Distil, export and judge one student of a teacher; after a stop, go on from its checkpoint.

    Parameters
    ----------
    encoder : torch.nn.Module
        The teacher.
    teacher : str
        Its file or name.
    data : str
        Store.
    out : Path
        Folder that gets student/, bundle/ and validate/.
    targets : str
        Of `xmae export`.
    n_calibration : int
        Windows for the int8 ranges.
    settings : dict
        Of `xmae distill`: tier, crops, epochs, batch_size, seed.
    precisions : str
        Of `xmae export`.

    Returns
    -------
    dict
        `agreement`, `beats` (name of the shipped student with the same timing, or None), `student`
        and `bundle` (their places), `validate` (its result).
    """
    student = out / "student"
    taught = distill(
        teacher, data, str(student), **settings, token_weight=token_weight(encoder),
        resume=(student / "checkpoints" / "last.ckpt").is_file(),
    )  # fmt: skip
    bundle = str(out / "bundle")
    export(
        teacher, taught["student"], data, bundle, targets=targets, precisions=precisions,
        n_calibration=n_calibration, seed=settings["seed"],
    )  # fmt: skip
    gate = validate(bundle, data, str(out / "validate"), rounds=0)
    return {
        "agreement": taught["cosine"],
        "beats": settings["tier"] if settings["tier"] in BEATS else None,
        "student": taught["student"],
        "bundle": bundle,
        "validate": gate,
    }


def token_weight(teacher):
    """Return the weight of the loss on tokens: 0 for a program, whose only token is its
    embedding.
    """
    return 0.0 if isinstance(teacher, ProgramEncoder) else TOKEN_WEIGHT


def describe(result):
    """Return a line on the adopted encoder, and on the part of its band that our windows lack."""
    contract = result["contract"]
    lost = " and ".join(f"{low:g} to {high:g} Hz" for low, high in contract["band_lost_hz"])
    said = f"adopted: {result['embed_dim']} numbers from {contract['sfreq']:g} Hz"
    return said + (f"; of its band, {lost} is not in our windows" if lost else "")
