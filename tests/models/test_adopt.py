"""Encoders of others: their checkpoints fit by name and shape, compute what is published, and
nothing in a file runs.
"""

import io
import json
import os
import re
import zipfile
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xmae.cli import main
from xmae.errors import UserError
from xmae.evaluation.heads.embedding import embed_windows
from xmae.export.stream import Stream
from xmae.models import load_encoder, save_encoder
from xmae.models.adopted.adopt import adopt_module, open_foreign
from xmae.models.adopted.contract import Contract, Prepare
from xmae.models.adopted.normwear import NormWear, ricker, scalogram
from xmae.models.adopted.registry import ARCHITECTURES
from xmae.signals.filters import ppg_clean
from xmae.signals.resample import resample

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
LINEAR = ("weight", "bias")


def keys(name, parts):
    return {f"{name}.{part}" for part in parts}


def resnet_keys(n_blocks):
    """Return the tensors of the published ResNet-1D."""
    found = keys("first_block_conv.conv", LINEAR) | keys("first_block_bn", NORM)
    for i in range(n_blocks):
        block = f"basicblock_list.{i}"
        for n in (1, 2):
            found |= keys(f"{block}.bn{n}", NORM) | keys(f"{block}.conv{n}.conv", LINEAR)
    return found


def papagei_keys(which):
    found = resnet_keys(18) | keys("final_bn", NORM) | keys("dense", LINEAR)
    if which == "papagei-s":
        for head, last in ((1, 2), (2, 3)):
            found |= keys(f"gating_network_{head}.0", LINEAR)
            for expert in range(3):
                for layer in (0, last):
                    found |= keys(f"expert_layers_{head}.{expert}.{layer}", LINEAR)
    elif which == "papagei-p":
        found |= keys("projector.0", LINEAR) | keys("projector.1", NORM)
        found |= keys("projector.3", LINEAR)
    else:
        for layer in (0, 2, 4):
            found |= keys(f"mt_regression.{layer}", LINEAR)
        found |= keys("mt_regression.1", NORM) | keys("mt_regression.3", NORM)
    return found


def anyppg_keys():
    found = keys("first_conv.conv", LINEAR) | keys("first_bn", NORM)
    for stage, n_blocks in enumerate((2, 2, 2, 3, 3, 1)):
        for i in range(n_blocks):
            block = f"stage_list.{stage}.block_list.{i}"
            for n in (1, 2, 3):
                found |= keys(f"{block}.bn{n}", NORM) | keys(f"{block}.conv{n}.conv", LINEAR)
            found |= keys(f"{block}.se_fc1", LINEAR) | keys(f"{block}.se_fc2", LINEAR)
    return found


def normwear_keys():
    found = {"cls_token", "pos_embed"} | keys("patch_embed.proj", LINEAR) | keys("norm", LINEAR)
    for i in range(12):
        for block in ("variate_encoder", "cls_fusion")[: 2 - i % 2]:
            for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
                found |= keys(f"encoder_blocks.{i}.{block}.{layer}", LINEAR)
    return found


PUBLISHED = {  # tensors, millions of parameters, and the shapes of some
    "papagei-s": (papagei_keys("papagei-s"), 5.79, {"dense.weight": (512, 512)}),
    "papagei-p": (papagei_keys("papagei-p"), 5.16, {"projector.3.weight": (128, 256)}),
    "papagei-svri": (papagei_keys("papagei-svri"), 5.16, {"mt_regression.4.weight": (1, 128)}),
    "pulse-ppg": (
        resnet_keys(12), 28.5,
        {"first_block_conv.conv.weight": (128, 1, 11), "basicblock_list.11.bn2.weight": (512,)},
    ),
    "anyppg": (
        anyppg_keys(), 5.85, {"stage_list.1.block_list.0.conv2.conv.weight": (160, 16, 3)}
    ),
    "normwear": (
        normwear_keys(),  128.12,
        {"pos_embed": (1, 560, 768), "patch_embed.proj.weight": (768, 3, 9, 5)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_state_dict_fits_by_name_and_shape(name):
    published, millions, shapes = PUBLISHED[name]
    with torch.device("meta"):
        network = ARCHITECTURES[name].network(**ARCHITECTURES[name].published)
    state = network.state_dict()
    assert set(state) == published
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert {key: tuple(state[key].shape) for key in shapes} == shapes
    architecture = ARCHITECTURES[name]
    defaults = {p.name: p.default for p in signature(architecture.network).parameters.values()}
    layout = {
        k: tuple(v) if isinstance(v, list) else v for k, v in architecture.layout(state).items()
    }
    expected = defaults | architecture.published
    assert layout == {key: expected[key] for key in layout}


def trained_like(network):
    """Return batch norms as after training, so that each of their four tensors matters."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d):
            for tensor in (layer.weight, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (layer.bias, layer.running_mean):
                nn.init.normal_(tensor, std=0.3)
    return network.eval()


def same_conv(x, state, name, stride=1, groups=1):
    """Return a convolution padded as TensorFlow's "same", from the tensors of a checkpoint."""
    weight = state[f"{name}.conv.weight"]
    total = max((-(-x.shape[-1] // stride) - 1) * stride + weight.shape[-1] - x.shape[-1], 0)
    padded = F.pad(x, (total // 2, total - total // 2))
    return F.conv1d(padded, weight, state[f"{name}.conv.bias"], stride, groups=groups)


def norm(x, state, name):
    shape = (-1, 1)
    mean, var, weight, bias = (
        state[f"{name}.{part}"].view(shape)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def half(x):
    """Return the maximum of pairs, an odd one with zero."""
    return torch.nn.functional.pad(x, (0, x.shape[-1] % 2)).unflatten(-1, (-1, 2)).amax(-1)


def with_channels(x, n):
    more = n - x.shape[1]
    return torch.cat([x.new_zeros(len(x), more // 2, x.shape[2]), x,
                      x.new_zeros(len(x), more - more // 2, x.shape[2])], 1)  # fmt: skip


def resnet_by_hand(x, state, n_blocks):
    x = norm(same_conv(x, state, "first_block_conv"), state, "first_block_bn").relu()
    for i in range(n_blocks):
        block, stride = f"basicblock_list.{i}", 2 if i % 2 == 1 else 1
        y = x if i == 0 else norm(x, state, f"{block}.bn1").relu()
        y = norm(same_conv(y, state, f"{block}.conv1", stride), state, f"{block}.bn2").relu()
        y = same_conv(y, state, f"{block}.conv2")
        x = y + with_channels(half(x) if stride == 2 else x, y.shape[1])
    return x


@torch.no_grad()
@pytest.mark.parametrize("name", ["papagei-s", "papagei-p", "pulse-ppg", "anyppg"])
def test_networks_compute_what_is_published(name):
    """Against the layers worked out one by one from the tensors."""
    small = {
        "papagei-s": {"width": 4, "n_blocks": 6, "embed_dim": 8},
        "papagei-p": {"uses_dense": False, "width": 4, "n_blocks": 6, "embed_dim": 8},
        "pulse-ppg": {"width": 4, "n_blocks": 6},
        "anyppg": {"widths": (16, 32, 48), "n_blocks": (2, 1, 2), "width": 16},
    }[name]
    network = trained_like(ARCHITECTURES[name].network(**small))
    state, x = network.state_dict(), torch.randn(3, 1, 203)
    got = network.pool(network.tokens(x))
    if name == "anyppg":
        y = F.silu(norm(same_conv(x, state, "first_conv"), state, "first_bn"))
        for stage, n_blocks in enumerate((2, 1, 2)):
            for i in range(n_blocks):
                block, stride = f"stage_list.{stage}.block_list.{i}", 1 if i else 2
                z = y if stage == i == 0 else F.silu(norm(y, state, f"{block}.bn1"))
                z = F.silu(norm(same_conv(z, state, f"{block}.conv1"), state, f"{block}.bn2"))
                z = same_conv(z, state, f"{block}.conv2", stride, groups=z.shape[1] // 16)
                z = same_conv(F.silu(norm(z, state, f"{block}.bn3")), state, f"{block}.conv3")
                s = F.linear(z.mean(-1), *(state[f"{block}.se_fc1.{p}"] for p in LINEAR))
                s = F.linear(F.silu(s), *(state[f"{block}.se_fc2.{p}"] for p in LINEAR))
                y = z * s.sigmoid()[..., None] + with_channels(
                    half(y) if stride == 2 else y, z.shape[1]
                )
        wanted = y.mean(-1)
    elif name == "pulse-ppg":
        scaled = (x - x.mean(-1, keepdim=True)) / torch.sqrt(
            x.var(-1, keepdim=True, correction=0) + 1e-5
        )
        wanted = resnet_by_hand(scaled, state, 6).amax(-1)
    else:
        wanted = norm(resnet_by_hand(x, state, 6), state, "final_bn").relu().mean(-1)
        if name == "papagei-s":
            wanted = wanted @ state["dense.weight"].T + state["dense.bias"]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_normwear_against_its_sums():
    """Wavelets against their formula, one scalogram entry as a sum, the mean over all tokens."""
    wavelet = ricker(101, torch.tensor([3.0]))[0].double().numpy()
    t = np.arange(101) - 50.0
    wanted = 2 / (np.sqrt(9) * np.pi**0.25) * (1 - t**2 / 9) * np.exp(-(t**2) / 18)
    np.testing.assert_allclose(wavelet, wanted, atol=1e-6)
    x = torch.randn(1, 650)
    found = scalogram(x)
    assert found.shape == (1, 3, 649, 65)
    second = np.diff(x[0].double().numpy(), 2)
    taps = ricker(640, torch.tensor([7.1]))[0].double().numpy()
    padded = np.pad(second, 320)
    assert found[0, 2, 300, 7].item() == pytest.approx(padded[300:940] @ taps, rel=1e-3, abs=1e-3)

    network = NormWear(32, 2, 2).eval()
    outputs = []
    network.norm.register_forward_hook(lambda module, inputs, y: outputs.append(y))
    embedding = network.pool(network.tokens(x[:, None]))
    torch.testing.assert_close(embedding, outputs[0].mean(1), rtol=1e-4, atol=1e-5)
    assert outputs[0].shape == (1, 1 + 72 * 13, 32)


def test_a_checkpoint_round_trip(tmp_path):
    """As training scripts save: wrapped names, one level down, beside numbers of NumPy."""
    original = open_foreign("random", "papagei-s")
    trained_like(original.network)
    state = {f"module.{name}": tensor for name, tensor in original.network.state_dict().items()}
    torch.save({"net": state, "epoch": 3, "test_loss": np.float64(0.5)}, tmp_path / "s.pt")
    with pytest.raises(UserError, match="state the licence"):
        open_foreign(tmp_path / "s.pt", "papagei-s")
    opened = open_foreign(tmp_path / "s.pt", "papagei-s", licence="BSD-3-Clause-Clear")
    x = torch.rand(2, 1, 1000) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(opened(x), original(x), rtol=0, atol=0)
    assert opened.provenance["licence"] == "BSD-3-Clause-Clear"
    assert opened.provenance["contract"]["band_lost_hz"] == [[8.0, 12.0]]
    save_encoder(opened, tmp_path / "teacher.safetensors", opened.provenance)
    again = load_encoder(tmp_path / "teacher.safetensors")
    np.testing.assert_array_equal(
        embed_windows(again, x[:, 0].numpy()), embed_windows(original, x[:, 0].numpy())
    )
    with pytest.raises(UserError, match="not a checkpoint of this architecture: also has"):
        open_foreign(tmp_path / "s.pt", "pulse-ppg", licence="x")


class Trap:
    """An object that would make a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_file_runs(tmp_path, monkeypatch):
    caught = tmp_path / "caught"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "x": Trap(caught)}, tmp_path / "t.pt")
    with pytest.raises(UserError, match="running code, which is refused"):
        open_foreign(tmp_path / "t.pt", "papagei-s", licence="x")

    program = torch.export.export(pooled(), (torch.zeros(1, 1, 500),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    for name, changed in (("sample_inputs", pickled(Trap(caught))), ("models", evil_size(caught))):
        changed_file = rewritten(buffer.getvalue(), name, changed)
        (tmp_path / "p.pt2").write_bytes(changed_file)
        with pytest.raises(UserError):
            open_foreign(tmp_path / "p.pt2", None, Contract(50), "x")
    assert not caught.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def pickled(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return lambda content: buffer.getvalue()


def evil_size(path):
    def change(content):
        graph = json.loads(content)
        graph["graph_module"]["graph"]["sym_int_values"] = {
            "s0": {"as_expr": {"expr_str": f"__import__('os').mkdir({str(path)!r})"}}
        }
        return json.dumps(graph).encode()

    return change


def rewritten(content, folder, change):
    """Return a zip archive in which the files of one folder are changed."""
    out, changed = io.BytesIO(), 0
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            inside = f"/{folder}/" in name and not name.endswith("/")
            changed += inside
            new.writestr(name, change(old.read(name)) if inside else old.read(name))
    assert changed
    return out.getvalue()


def pooled(n_out=8):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(1, n_out, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
    ).eval()


@torch.no_grad()
def test_programs_of_every_kind_are_the_module(tmp_path):
    pytest.importorskip("onnxruntime")
    module, contract = pooled(), Contract(50, scaling="unit", length_s=8)
    torch.jit.script(module).save(tmp_path / "m.ts")
    torch.export.save(torch.export.export(module, (torch.zeros(1, 1, 400),)), tmp_path / "m.pt2")
    torch.onnx.export(module, (torch.zeros(1, 1, 400),), tmp_path / "m.onnx", verbose=False)
    x = torch.rand(3, 1, 1000) * 2 - 1
    first, last = (resample(x.double().numpy(), 100, 50)[..., i : i + 400] for i in (0, 100))
    parts = [torch.from_numpy(part).float() for part in (first, last)]
    unit = [(p - p.amin(-1, keepdim=True)) / (p.amax(-1) - p.amin(-1))[..., None] for p in parts]
    wanted = (module(unit[0]) + module(unit[1])) / 2
    for name in ("m.ts", "m.pt2", "m.onnx"):
        encoder = open_foreign(tmp_path / name, None, contract, "CC0-1.0")
        torch.testing.assert_close(encoder(x), wanted, rtol=1e-4, atol=1e-5)
        save_encoder(encoder, tmp_path / "t.safetensors", encoder.provenance)
        again = embed_windows(load_encoder(tmp_path / "t.safetensors"), x[:, 0].numpy())
        np.testing.assert_allclose(again, wanted, rtol=1e-3, atol=1e-5)
    in_memory = adopt_module(module, contract, "CC0-1.0")
    torch.testing.assert_close(in_memory(x), wanted, rtol=1e-4, atol=1e-5)
    for other in (Contract(50, layout="channels_time"), Contract(500, layout="time_channels")):
        with pytest.raises(
            UserError, match="of the program is no|program does not fit its contract"
        ):
            open_foreign(tmp_path / "m.ts", None, other, "x")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"channels": 3}, "one channel of PPG"),
        ({"scaling": "subject"}, "not known on a watch"),
        ({"scaling": "none"}, "first unit is gone"),
        ({"length_s": 240}, "mostly made up"),
        ({"sfreq": 1000}, "25 to 500"),
        ({"band_hz": [8, 0.5]}, "lower and a higher"),
        ({"band_hz": [9, 12]}, "our windows hold 0.5 to 8 Hz"),
        ({"length_s": 0.01}, "samples of an input"),
        ({"band": [0.5, 8]}, "did you mean band_hz"),
        ({"layout": "tokens"}, "unknown layout 'tokens'; expected one of"),
    ],
)
def test_what_a_window_does_not_hold_is_refused_with_the_reason(settings, reason):
    with pytest.raises(UserError, match=reason):
        Contract.of({"sfreq": 50} | settings, "spec.yaml")


def test_a_narrower_band_is_applied_inside_the_teacher():
    """A sine outside the band is gone, one inside stays; ours is left as it is."""
    t = torch.arange(1000) / 100
    for hertz, size in ((1.0, 1.0), (6.0, 0.0)):
        wave = torch.sin(2 * torch.pi * hertz * t)[None, None]
        prepare = Prepare(Contract(100, band_hz=(0.5, 3.0)))
        got = (wave @ prepare.matrix)[0, 0, 300:700]
        assert float(got.std()) == pytest.approx(size * float(wave[0, 0, 300:700].std()), abs=0.06)
    ours = Prepare(Contract(100, band_hz=(0.3, 12.0)))
    torch.testing.assert_close(ours.matrix, torch.eye(1000))
    assert ours.contract.describe()["band_lost_hz"] == [[0.3, 0.5], [8.0, 12.0]]
    assert np.isfinite(ppg_clean(np.random.default_rng(0).normal(size=1000), 100)).all()


def test_adopt_without_a_store_writes_a_teacher(tmp_path, capsys):
    spec = tmp_path / "spec.yaml"
    spec.write_text("sfreq: 50\nscaling: minmax\n")
    torch.jit.script(pooled()).save(tmp_path / "m.ts")
    words = ["adopt", str(tmp_path / "m.ts"), "--spec", str(spec), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "state the licence" in capsys.readouterr().err
    assert main([*words, "--licence", "CC0-1.0"]) == 0
    found = json.loads((tmp_path / "run" / "adopt.json").read_text())
    assert found["embed_dim"] == 8 and found["contract"]["sfreq"] == 50
    assert load_encoder(found["teacher"]).provenance["licence"] == "CC0-1.0"
    # what was adopted is a teacher already: as it is, with its licence
    again = ["adopt", found["teacher"], "--out", str(tmp_path / "again")]
    assert main(again) == 0
    assert (
        Path(found["teacher"]).read_bytes()
        == (tmp_path / "again" / "teacher.safetensors").read_bytes()
    )
    assert main([*again, "--licence", "MIT"]) == 2
    assert "adopted with the licence CC0-1.0" in capsys.readouterr().err
    save_encoder(load_encoder("student-mcu-s"), tmp_path / "ours.safetensors", {})
    assert main(["adopt", str(tmp_path / "ours.safetensors"), "--out", str(tmp_path / "no")]) == 2
    assert "an encoder of xMAE already" in capsys.readouterr().err
    (tmp_path / "run" / "student").mkdir()
    assert main([*words, "--licence", "MIT"]) == 2
    assert "the student of another teacher" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["weights.pt", "--spec", "spec.yaml"], r"weights.pt: .*; weights alone need --architect"),
        (["m.onnx", "--architecture", "anyppg"], "m.onnx: a program; state what it hears"),
        (["random"], r"random: give an architecture \(papagei-s, "),
    ],
)
def test_what_was_meant_otherwise_is_said(words, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(pooled().state_dict(), "weights.pt")
    Path("m.onnx").write_bytes(b"")
    Path("spec.yaml").write_text("sfreq: 50\n")
    assert main(["adopt", *words, "--licence", "CC0-1.0", "--out", "run"]) == 2
    assert re.search(reason, capsys.readouterr().err)


@pytest.mark.extended
def test_a_published_architecture_goes_from_checkpoint_to_a_gated_bundle_with_c(
    small_store, tmp_path
):
    """Random weights, a short training: the way, the gates and what travels; not how well."""
    pytest.importorskip("litert_torch")
    state = open_foreign("random", "papagei-s").network.state_dict()
    torch.save(state, tmp_path / "papagei.pt")
    out = tmp_path / "run"
    words = [
        "adopt", tmp_path / "papagei.pt", "--architecture", "papagei-s", "--licence", "random",
        "--data", small_store, "--out", out, "--crops", 512, "--epochs", 8,
        "--batch-size", 32, "--n-calibration", 32, "--min-agreement", -1,
    ]  # fmt: skip
    code = main(list(map(str, words)))
    found = json.loads((out / "adopt.json").read_text())
    assert code == (0 if found["passed"] else 1)
    assert set(found["gates"]) == {"int8", "teacher"} and found["gates"]["teacher"]
    bundle = out / "bundle"
    assert list(bundle.glob("c/network/*.c")) and (bundle / "student_int8.tflite").is_file()
    assert found["beats"] == "beats-mcu"
    assert not (bundle / "teacher.safetensors").exists()  # others' weights stay with their owner
    manifest = json.loads((bundle / "manifest.json").read_text())
    teacher = manifest["provenance"]["student"]["teacher"]
    assert teacher["licence"] == "random" and teacher["contract"]["sfreq"] == 125
    # the rate is read off the beats
    assert "hr" not in json.loads((bundle / "heads.json").read_text())["student"]
    assert str(tmp_path) not in json.dumps(manifest)
    # 512 numbers of this teacher, and beats: in Python and in the C library
    assert {entry["embedding"] for entry in manifest["models"]} == {512}
    (c_model,) = manifest["c"]["models"]
    assert c_model["int8"] == "student_int8.tflite"
    # a pulse wave: every student refuses a bare sine as unsure
    phase = np.arange(64 * 20) * 1.2 / 64 % 1
    pulse = np.exp(-(((phase - 0.25) / 0.1) ** 2)) + 0.3 * np.exp(-(((phase - 0.55) / 0.1) ** 2))
    codes = (20000 + 3000 * pulse).astype(int)
    results = Stream(bundle / "student_int8.tflite", sfreq=64).push(codes)
    assert results[-1].rate == pytest.approx(7200, abs=100) and results[-1].beats
