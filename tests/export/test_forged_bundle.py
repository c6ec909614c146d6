"""Forged bundles: refused as they are opened, and harmless in generated C even if they were not."""

import base64
import json
import re
import subprocess

import numpy as np
import pytest

from xmae.benchmarks.bench import bench
from xmae.benchmarks.simulate import simulate
from xmae.benchmarks.validate import validate
from xmae.cli.embed import embed
from xmae.data.bidmc import bidmc_files
from xmae.errors import UserError
from xmae.evaluation.heads.head import Head
from xmae.evaluation.heads.heads import HEADS
from xmae.export.bundle.bundle import PROBES, Bundle, preprocessing, seal
from xmae.export.bundle.inspect import inspect
from xmae.export.bundle.migrate import SCHEMA_VERSION
from xmae.export.bundle.schema import End
from xmae.export.bundle.signature import SMALL_ORDER, refuse_small_order
from xmae.files import sha256, write_json
from xmae.firmware_sim.build import generate

WIDTH = 4
HOSTILE = '*/ __attribute__((constructor)) int run(void) { return system("id"); } /*'
ENDS = {
    "input": {"shape": [1, 1, 1, 1000], "dtype": "int8", "scale": 2 / 255, "zero_point": 0},
    "output": {"shape": [1, WIDTH], "dtype": "int8", "scale": 0.01, "zero_point": -3},
}
HEAD = {
    "kind": "regression",
    "label": "Heart rate",
    "units": "bpm",
    "weight": [0.5] * WIDTH,
    "bias": 70.0,
    "skill": 0.9,
}


@pytest.fixture
def folder(tmp_path):
    """Return a small sound bundle: one file that nothing here runs, and one head."""
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "student_int8.tflite").write_bytes(b"model")
    write_json(path / HEADS, {"student": {"hr": HEAD}})
    entry = {"model": "student", "format": "litert", "precision": "int8"}
    entry |= {"file": "student_int8.tflite", **ENDS}
    window = {"sfreq": 100, "n_times": 1000, "range": [-1, 1]}
    seal(path, {"schema_version": SCHEMA_VERSION, "window": window,
                "preprocessing": preprocessing(), "models": [entry]})  # fmt: skip
    return path


def forge(folder, name, change):
    """Change a JSON file of a bundle, and the hashes with it, as a forger would."""
    value = json.loads((folder / name).read_text())
    value = change(value) or value
    (folder / name).write_text(json.dumps(value))
    if name == HEADS:
        forge(folder, "manifest.json", lambda m: m["files"].update({HEADS: sha256(folder / HEADS)}))


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


HEAD_FORGERIES = {
    "task": lambda h: {"student": {HOSTILE: h["student"]["hr"]}},
    "model": lambda h: {HOSTILE: h["student"]},
    "units": lambda h: h["student"]["hr"].update(units=HOSTILE),
    "units with an escape": lambda h: h["student"]["hr"].update(units="\x1b[2J"),
    "label with an escape": lambda h: h["student"]["hr"].update(label="rate\x1b]0;x\x07"),
    "kind": lambda h: h["student"]["hr"].update(kind="exec"),
    "weight of text": lambda h: h["student"]["hr"].update(weight=["1"] * WIDTH),
    "weight of NaN": lambda h: h["student"]["hr"].update(weight=[float("nan")] * WIDTH),
    "weight too large": lambda h: h["student"]["hr"].update(weight=[1e300] * WIDTH),
    "weights too few": lambda h: h["student"]["hr"].update(weight=[1.0]),
    "bias of text": lambda h: h["student"]["hr"].update(bias="0; system()"),
    "bias missing": lambda h: h["student"]["hr"].pop("bias") and None,
    "another field": lambda h: h["student"]["hr"].update(code="x"),
    "a list": lambda _: [1],
    "a number": lambda _: 3,
    "a head that is none": lambda h: h["student"].update(hr=None),
}
MANIFEST_FORGERIES = {
    "zero point of text": lambda m: m["models"][0]["input"].update(zero_point=HOSTILE),
    "zero point too large": lambda m: m["models"][0]["input"].update(zero_point=2**40),
    "zero point that is true": lambda m: m["models"][0]["input"].update(zero_point=True),
    "scale of text": lambda m: m["models"][0]["input"].update(scale="1"),
    "scale of infinity": lambda m: m["models"][0]["output"].update(scale=float("inf")),
    "scale of zero": lambda m: m["models"][0]["output"].update(scale=0),
    "shape of text": lambda m: m["models"][0]["output"].update(shape=[1, HOSTILE]),
    "shape too large": lambda m: m["models"][0]["output"].update(shape=[1, 2**40]),
    "dtype": lambda m: m["models"][0]["output"].update(dtype=HOSTILE),
    "file above": lambda m: m["models"][0].update(file="../heads.json"),
    "hidden file": lambda m: m["files"].update({".bashrc": "0" * 64}),
    "file in a folder": lambda m: m["files"].update({"a/b": "0" * 64}),
    "hash": lambda m: m["files"].update({"heads.json": "x"}),
    "model": lambda m: m["models"][0].update(model="../../x"),
    "format": lambda m: m["models"][0].update(format=["litert"]),
    "entry that is none": lambda m: m["models"].append(None),
    "models that are none": lambda m: m.update(models={"a": 1}),
    "files that are none": lambda m: m.update(files=["a"]),
    "window that is none": lambda m: m.update(window=3),
    "name with an escape": lambda m: m.update(name="\x1b[31mxmae"),
    "tools with an escape": lambda m: m.update(tools={"torch": "\x1b[2J"}),
    "licence that is none": lambda m: m.update(licences={"models": 1, "data": None}),
    "provenance without end": lambda m: m.update(provenance={"student": nested(200)}),
    "drift of text": lambda m: m["models"][0].update(drift={"centred_cosine_median": "1"}),
    "field of infinity": lambda m: m.update(other=float("inf")),
    "version 1, models of text": lambda m: m.update(schema_version=1, models="abc"),
    "version 1, entries of text": lambda m: m.update(schema_version=1, models=["abc"]),
}


def test_a_sound_bundle_opens(folder):
    assert Bundle.open(folder).heads["student"]["hr"].units == "bpm"


def test_a_heart_rate_at_chance_measures_drift_and_is_no_head(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / HEADS, {"student": {}})
    write_json(folder / PROBES, {"student": {"hr": HEAD | {"skill": -0.1}}})
    seal(folder, manifest)
    bundle = Bundle.open(folder)
    assert bundle.trusted_heads("student") == {} and bundle.at_chance("student") == []
    assert list(bundle.drift_heads("student")) == ["hr"]
    write_json(folder / PROBES, {"student": {"hr": HEAD | {"weight": [0.5]}}})
    seal(folder, manifest)
    with pytest.raises(UserError, match=PROBES):
        Bundle.open(folder)


@pytest.mark.parametrize("forgery", HEAD_FORGERIES)
def test_forged_heads_are_refused_in_one_line(folder, forgery):
    forge(folder, HEADS, HEAD_FORGERIES[forgery])
    with pytest.raises(UserError, match=HEADS) as refused:
        Bundle.open(folder)
    assert "\x1b" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("forgery", MANIFEST_FORGERIES)
def test_forged_manifests_are_refused_in_one_line(folder, forgery):
    forge(folder, "manifest.json", MANIFEST_FORGERIES[forgery])
    with pytest.raises(UserError, match=str(folder)) as refused:
        Bundle.open(folder)
    assert "\x1b" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "\ufeff{", "1" * 10_000, ""])
def test_json_that_no_parser_likes_is_one_line(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError):
        Bundle.open(folder)


def test_what_export_writes_is_held_against_the_schema_too(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"][0]["input"]["zero_point"] = HOSTILE
    with pytest.raises(UserError, match="zero_point"):
        seal(folder, manifest)


@pytest.fixture
def unopened(folder, monkeypatch):
    """Return a function of heads and ends of a bundle that no schema has seen: its
    `watch_config.h`.
    """
    nothing = {"files": [], "layers": [], "arena_bytes": 0}
    monkeypatch.setattr(generate, "write_c", lambda *a, **k: nothing)
    opened = Bundle.open(folder)

    def header(heads, **ends):
        described = {end: End.model_construct(**value) for end, value in ends.items()}
        entry = opened.all_models[0].model_copy(update=described)
        manifest = opened.manifest.model_copy(update={"models": [entry]})
        unseen = {name: Head.model_construct(**head) for name, head in heads.items()}
        forged = Bundle(opened.path, manifest, {"student": unseen})
        generate.write_firmware(forged, folder / "c", 2**20, 2**20)
        return (folder / "c" / "watch_config.h").read_text()

    return header


def test_text_in_generated_c_stays_in_its_comment(unopened):
    header = unopened({HOSTILE: HEAD | {"units": "\n#include </etc/passwd>\n" + HOSTILE}})
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    assert "system" not in code and "include <" not in code and "passwd" not in code
    assert header.count("/*") == header.count("*/") == 2


@pytest.mark.parametrize("value", [HOSTILE, "0", None, 0.5])
def test_a_zero_point_that_is_no_whole_number_is_not_written(unopened, value):
    with pytest.raises((UserError, TypeError)):
        unopened({"hr": HEAD}, input=ENDS["input"] | {"zero_point": value})


def test_numbers_in_generated_c_are_the_numbers(unopened, folder):
    header = unopened({"hr": HEAD})
    defined = dict(re.findall(r"#define (\w+) (\S+)", header))
    assert np.float32(defined["INPUT_SCALE"].rstrip("f")) == np.float32(2 / 255)
    assert defined["INPUT_ZERO"] == "0" and defined["EMBEDDING_N"] == str(WIDTH)
    source = folder / "c" / "watch_config.c"
    done = subprocess.run(["gcc", "-fsyntax-only", str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def key(tmp_path):
    """Return the paths of a private and a public Ed25519 key."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    paths = tmp_path / "key.pem", tmp_path / "key.pub"
    pem = s.Encoding.PEM
    paths[0].write_bytes(private.private_bytes(pem, s.PrivateFormat.PKCS8, s.NoEncryption()))
    info = s.PublicFormat.SubjectPublicKeyInfo
    paths[1].write_bytes(private.public_key().public_bytes(pem, info))
    return paths


def sealed(folder, key=None):
    seal(folder, json.loads((folder / "manifest.json").read_text()), key)


def test_nobody_is_named_as_the_signer_whose_key_was_not_given(folder, key):
    sealed(folder, key[0])
    public = json.loads((folder / "manifest.sig").read_text())["public_key"]
    said = inspect(str(folder))
    assert said["signature"] == "unverified" and said["signed_by"] is None
    assert "signed by" not in said["out"] and public not in json.dumps(said)
    said = inspect(str(folder), str(key[1]))
    assert said["signature"] == "verified" and f"signed by {public}" in said["out"]


def test_inspect_refuses_a_signature_of_another_manifest(folder, key):
    sealed(folder, key[0])
    forge(folder, "manifest.json", lambda m: m.update(name="other"))
    with pytest.raises(UserError, match="not a signature of this manifest"):
        inspect(str(folder))


SIGNATURE_FORGERIES = {
    "algorithm": lambda r: r.update(algorithm="none"),
    "no algorithm": lambda r: r.pop("algorithm") and None,
    "short key": lambda r: r.update(public_key="00"),
    "key of a number": lambda r: r.update(public_key=3),
    "short signature": lambda r: r.update(signature="00"),
    "a list": lambda _: [1],
    "a further field": lambda r: r.update(x=1),
}


@pytest.mark.parametrize("forgery", SIGNATURE_FORGERIES)
def test_forged_signatures_are_refused(folder, key, forgery):
    sealed(folder, key[0])
    forge(folder, "manifest.sig", SIGNATURE_FORGERIES[forgery])
    with pytest.raises(UserError, match="manifest.sig"):
        Bundle.open(folder)
    with pytest.raises(UserError, match="manifest.sig"):
        Bundle.open(folder, key[1])


@pytest.mark.parametrize("verb", ["embed", "validate", "bench", "simulate"])
def test_verbs_that_run_a_bundle_take_the_key_and_refuse_another_ones(folder, verb, tmp_path, key):
    """Before they read anything else of what they are given."""
    store, missing = str(tmp_path / "store"), str(tmp_path / "none.csv")
    work = {
        "embed": lambda: embed(str(bidmc_files()[0]), model=str(folder), public_key=str(key[1])),
        "validate": lambda: validate(str(folder), store, public_key=str(key[1])),
        "bench": lambda: bench(str(folder), store, public_key=str(key[1])),
        "simulate": lambda: simulate(
            str(folder), device="apollo4", signal=missing, public_key=str(key[1])
        ),
    }[verb]
    with pytest.raises(UserError, match="not signed"):
        work()


# RFC 8032 in plain Python: an independent reference for the points of small order
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def point(encoded):
    """Return the point (x, y) of 32 bytes, or None; y may be beyond P, as libraries take it."""
    number = int.from_bytes(encoded, "little")
    y = (number & (2**255 - 1)) % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y) if (x * x - square) % P == 0 else None


def double(p):
    x, y = p
    product = D * x * x * y * y % P
    return (
        2 * x * y * pow(1 + product, -1, P) % P,
        (y * y + x * x) * pow(1 - product, -1, P) % P,
    )


def has_small_order(encoded):
    p = point(encoded)
    return p is not None and double(double(double(p))) == (0, 1)


def test_keys_of_small_order_are_refused_and_others_not():
    assert all(has_small_order(bytes.fromhex(text)) for text in SMALL_ORDER)
    found = set()  # every point of small order is eight times 0: also by search over low y and high
    for y in (*range(20), *range(P - 20, 2**255)):
        encoded = y.to_bytes(32, "little")
        if has_small_order(encoded):
            found.add(encoded.hex())
    assert found <= SMALL_ORDER and len(SMALL_ORDER - found) == 2  # the two of order 8
    for seed in range(50):
        key = np.random.default_rng(seed).bytes(32)
        assert not has_small_order(key)
        refuse_small_order(key, "key")


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("text", sorted(SMALL_ORDER))
def test_a_bundle_signed_with_a_weak_key_is_refused(folder, tmp_path, text, sign):
    """As the key that the bundle names, and as the one that the user is made to give."""
    encoded = bytearray.fromhex(text)
    encoded[31] |= sign
    record = {"algorithm": "Ed25519", "public_key": encoded.hex(), "signature": "01" + "00" * 63}
    (folder / "manifest.sig").write_text(json.dumps(record))
    with pytest.raises(UserError, match="weak"):
        Bundle.open(folder)
    der = bytes.fromhex("302a300506032b6570032100") + encoded  # RFC 8410
    body = base64.b64encode(der).decode()
    pem = tmp_path / "weak.pub"
    pem.write_text(f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    with pytest.raises(UserError, match="weak"):
        Bundle.open(folder, pem)
