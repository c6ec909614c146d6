"""Whole manifests, weights, tables and settings, and how each is opened."""

import json

import numpy as np
import torch
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from xmae.benchmarks.harness.regressions import find_regressions, read_result
from xmae.cli import function_of
from xmae.cli.options import read_settings
from xmae.data.prepare.prepare import prepare
from xmae.data.store.integrity import verify
from xmae.data.store.store import WindowStore
from xmae.export.bundle.bundle import Bundle, preprocessing, seal
from xmae.export.bundle.migrate import SCHEMA_VERSION
from xmae.export.bundle.signature import sign
from xmae.files import sha256, write_json
from xmae.models.checkpoint import load_encoder, save_encoder
from xmae.models.fusion import FusionModel, save_fusion
from xmae.models.hub import HubEncoder
from xmae.models.student import McuStudent
from xmae.quantize.calibration import FEWEST
from xmae.signals.window import N_TIMES
from xmae.training.fit import LAST
from xmae.twin.bank import STRETCH


def write_store(folder, signals):
    """Write a store of one recording."""
    np.savez(folder / "r.npz", **signals)
    prepare([str(folder / "r.npz")], str(folder / "store"), split="1,0,0", min_quality=-1)
    (folder / "r.npz").unlink()
    return folder / "store" / "store.json"


def open_store(path):
    """Read all that a store is asked for."""
    store = WindowStore(path.parent)
    store.index()
    store.windows()
    return store.contents, verify(str(path.parent))


def rehash(folder):
    """Let store.json state the digests of its files as they are now."""
    path = folder / "store" / "store.json"
    meta = json.loads(path.read_text())
    for entry in (*meta["shards"], meta["index"]):
        entry["sha256"] = sha256(path.with_name(entry["file"]))
    path.write_text(json.dumps(meta))


def write_bundle(folder, signals, version=SCHEMA_VERSION):
    """Write a bundle of one file that is no model, with heads."""
    entry = {
        "model": "student",
        "format": "litert",
        "precision": "int8",
        "file": "student_int8.tflite",
    }
    head = {"kind": "regression", "label": "Heart rate", "units": "bpm", "weight": [0.5] * 4,
            "bias": 70.0, "skill": 0.9}  # fmt: skip
    (folder / "heads.json").write_text(json.dumps({"student": {"hr": head}}))
    (folder / entry["file"]).write_bytes(b"weights")
    seal(folder, {"schema_version": version, "window": {"sfreq": 100, "n_times": N_TIMES},
                  "preprocessing": preprocessing(), "models": [entry]})  # fmt: skip
    return folder / "manifest.json"


def write_old_bundle(folder, signals):
    """Write the same as the first version wrote it, which is migrated as it is read."""
    return write_bundle(folder, signals, version=1)


def reseal(folder):
    """Let the manifest state the digest of heads.json as it is now."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["heads.json"] = sha256(folder / "heads.json")
    path.write_text(json.dumps(manifest))


def write_signed(folder, signals):
    """Write a signed bundle and the key that it is to be verified with."""
    (folder / "bundle").mkdir()
    path = write_bundle(folder / "bundle", signals)
    private = Ed25519PrivateKey.from_private_bytes(b"a key of the tests alone........")
    (folder / "key.pem").write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    sign(path, folder / "key.pem")
    (folder / "key.pem").unlink()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(pem)
    digests = {file.name: sha256(file) for file in path.parent.iterdir() if file.suffix != ".sig"}
    write_json(folder / "whole.json", digests)
    return path


def open_signed(path):
    """Open a bundle that the key has signed; nothing but its signature's form may be another."""
    opened = Bundle.open(path.parent, public_key=path.parents[1] / "public.pem")
    whole = json.loads((path.parents[1] / "whole.json").read_text())
    if not opened.verdict.verified or any(
        sha256(path.with_name(name)) != digest for name, digest in whole.items()
    ):
        raise AssertionError("a bundle that nobody signed was opened as verified")
    return opened


def write_encoder(folder, signals):
    """Write the smallest student."""
    origin = {"method": "distilled", "splits": {"a": "train"}, "settings": {"lr": 0.1},
              "teacher": {"method": "xmae", "splits": {"b": "val"}}}  # fmt: skip
    save_encoder(McuStudent(16, "mcu-s"), folder / "a.safetensors", origin)
    return folder / "a.safetensors"


def write_checkpoint(folder, signals):
    """Write a run with one checkpoint."""
    state = {"state_dict": {"a": torch.arange(99.0)}, "optimizer_states": [], "lr_schedulers": [],
             "loops": {}, "callbacks": {}, "global_step": 1}  # fmt: skip
    (folder / "checkpoints").mkdir()
    torch.save(state, folder / "checkpoints" / LAST)
    (folder / "config.json").write_text(json.dumps({"lr": 0.1, "epochs": 3, "method": "xmae"}))
    return folder / "config.json"


def write_calibration(folder, signals):
    """Write random windows of one subject."""
    ppg = np.random.default_rng(0).uniform(-1, 1, (FEWEST, N_TIMES)).astype(np.float32)
    names, start = np.full(FEWEST, "a"), np.arange(FEWEST) * 10.0
    np.savez(folder / "calibration.npz", ppg=ppg, subject=names, record=names, start_s=start)
    return folder / "calibration.npz"


def write_reference(folder, signals):
    """Write a recorded run of `xmae bench`."""
    parts = {"embedding/base": np.ones((3, 8), np.float32), "train_mean/base": np.zeros(8)}
    keys = {
        "subject": np.array(list("abc")),
        "record": np.array(list("abc")),
        "start_s": np.arange(3.0),
    }
    np.savez_compressed(folder / "reference.npz", **keys, **parts)
    info = {"weights": {"base": "ab" * 32}, "device": "CPU", "xmae_version": "1", "latency_ms": {}}
    (folder / "reference.json").write_text(json.dumps(info))
    return folder / "reference.npz"


ROW = {"model": "base", "format": "onnx", "precision": "fp32", "device": "CPU", "latency_ms": 1.0,
       "latency_interval": [0.9, 1.1], "bytes": 9, "windows": 9, "cosine": 0.99}  # fmt: skip


def write_bench(folder, signals):
    """Write a result of `xmae bench`, as `--compare` reads it."""
    from xmae.benchmarks.harness.regressions import SCHEMA, SCHEMA_VERSION

    content = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "models": [ROW], "data": {}}
    (folder / "bench.json").write_text(json.dumps(content))
    return folder / "bench.json"


def open_bench(path):
    """Read and compare with itself."""
    result = read_result(path)
    return find_regressions(result, result)


def open_settings(path):
    """Read the settings of a verb from its file."""
    return read_settings("distill", function_of("distill"), ["--config", str(path)])


def write_hub(folder, signals):
    """Write a folder as `xmae publish` writes it."""
    encoder = McuStudent(16, "mcu-s")
    encoder.provenance = {"method": "none", "splits": {"a": "train"}}
    HubEncoder(encoder).save_pretrained(folder / "hub")
    return folder / "hub" / "config.json"


def open_hub(path):
    """Open by the hub's own way, and by ours."""
    return HubEncoder.from_pretrained(str(path.parent)), load_encoder(path.parent)


def write_fusion(folder, signals):
    """Write a fusion of PPG alone."""
    encoder = McuStudent(16, "mcu-s")
    encoder.provenance = {"method": "none"}
    save_fusion(FusionModel({"ppg": encoder}), folder / "fusion", {"task": "hr"})
    return folder / "fusion" / "fusion.json"


def write_weights(folder, signals):
    """Write a checkpoint of others, of the restricted kind."""
    state = {"first.conv.weight": torch.ones(8, 1, 3), "step": torch.tensor(3)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "a.pth")
    return folder / "a.pth"


def write_reference_checkpoint(folder, signals):
    """Write a checkpoint in the names of the reference design, without what makes it one."""
    torch.save({"state_dict": {"model.ppg_path.pos": torch.ones(1, 50, 16)}}, folder / "a.ckpt")
    return folder / "a.ckpt"


def write_predictions(folder, signals):
    """Write predictions that a comparison keeps for its next run."""
    kept = {"hr": np.ones(9), "hr/print": "ab" * 32}
    np.savez_compressed(folder / "probe.npz", encoder="cd" * 32, **kept)
    return folder / "probe.npz"


def write_bank(folder, signals):
    """Write a bank of two rhythms."""
    rr, rhythm = np.full((2, STRETCH), 800, np.uint16), np.zeros(2, np.uint8)
    kind = np.zeros((2, STRETCH), np.uint8)
    np.savez_compressed(folder / "bank.npz", rr_ms=rr, kind=kind, rhythm=rhythm)
    return folder / "bank.npz"


def write_note(folder, signals):
    """Write what a preparation keeps of a file that is done."""
    path = folder / "note.json"
    shard = {"file": "00000-a-0123456789ab.parquet", "sha256": "ab" * 32, "subject": "a",
             "windows": 3}  # fmt: skip
    write_json(path, {
        "of": [["a.npz", 10, 20]], "source": "a.npz", "shards": [shard], "refused": [],
        "recordings": [{"record": "a", "windows": 3, "shard": shard["file"]}], "leads": ["II"],
        "counts": {"kept": 3}, "repairs": {}, "passed_over": {}, "out_of_step": [],
    })  # fmt: skip
    return path


MAP = yaml.safe_dump(
    {"ppg": "ir", "ecg": ["chest", "arm"], "sfreq": 64, "time": "t", "time_unit": "ms"}
)
SETTINGS = yaml.safe_dump(
    {"teacher": "base", "data": "store", "epochs": 3, "lr": 0.1, "resume": False}
)
CONTRACT = yaml.safe_dump(
    {"sfreq": 50, "length_s": 5.0, "scaling": "zscore", "band_hz": [0.5, 8], "output": 0,
     "layout": "channels_time"}
)  # fmt: skip
