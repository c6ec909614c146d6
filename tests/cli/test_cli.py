"""The command line: help, options, exit codes, and what goes to which stream."""

import json
import re
import subprocess
import sys
from inspect import signature
from pathlib import Path
from types import ModuleType

import h5py
import neurokit2
import numpy as np
import pandas as pd
import pytest

from xmae import __version__
from xmae.cli import VERBS, described, function_of, main
from xmae.cli.options import KINDS
from xmae.data.bidmc import bidmc_files
from xmae.data.prepare.prepare import prepare_recording
from xmae.data.recording.readers import read_recording
from xmae.data.store.store import WindowStore
from xmae.errors import UserError
from xmae.evaluation.heads.embedding import embed_windows
from xmae.models.checkpoint import load_encoder

UNITS = {  # words that say in what the settings of a verb are counted
    "prepare": ["template-match correlation", "0.7,0.1,0.2"],
    "pretrain": ["Windows per step", "Passes over the training windows"],
    "fuse": ["Windows per step", "Hz"],
    "dreamer": ["1 to 5", "Folds, over people or over the clips"],
    "distill": ["10 s crops", "Crops per step"],
    "quantize": ["Windows (10 s each)"],
    "qat": ["Random 10 s crops"],
    "export": ["Windows (10 s each)"],
    "bench": ["Windows per model and round"],
    "validate": ["bpm", "cosine"],
    "embed": ["Hz"],
    "demo": ["minutes on 2 free cores"],
}
RECORDING = str(bidmc_files()[0])
WITHOUT_TORCH = """
import sys
from xmae.cli import main
code = main(sys.argv[1:])
sys.exit(code if "torch" not in sys.modules else "PyTorch was imported")
"""


def run(capsys, *arguments):
    """Return the exit code, standard output and standard error of one call."""
    code = main(list(map(str, arguments)))
    return code, *capsys.readouterr()


def complaint(capsys, *arguments):
    """Return the line that a mistake is answered with."""
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "" and err.startswith("xmae: ") and err.count("\n") == 1, (
        code,
        out,
        err,
    )
    return err


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Return the calls of a verb `try`, which is there for this test alone; its result can be
    changed.
    """
    monkeypatch.chdir(tmp_path)
    seen = []

    def attempt(
        inputs: list[str],
        out: str = "runs/try",
        record_baseline: bool = False,
        rate: float = 100.0,
        n_windows: int = 0,
        limit: float | None = None,
        name: str = "base",
        options: dict[str, float | str] | None = None,
    ) -> dict:
        """Try.

        Parameters
        ----------
        inputs : list of str
            Words.
        out : str
            Folder.
        record_baseline : bool
            A flag.
        rate : float
            Rate, Hz.
        n_windows : int
            Windows.
        limit : float or None
            Limit, bpm.
        name : str
            Name.
        """
        seen.append(dict(locals()) | {"seen": None})
        print("a library chatters")
        if attempt.error:
            raise attempt.error
        Path(out).mkdir(parents=True, exist_ok=True)
        return {"windows": n_windows, "out": out} | attempt.result

    attempt.result, attempt.error = {}, None
    module = ModuleType("trial")
    setattr(module, "try", attempt)
    monkeypatch.setitem(sys.modules, "trial", module)
    monkeypatch.setitem(VERBS, "try", ("trial", "for this test"))
    seen.append(attempt)
    return seen


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_a_verb_does_in_whole_sentences(verb, capsys):
    main([*verb.split(), "--help"])
    paragraphs = capsys.readouterr().out.partition("\n  --config")[0].split("\n\n")[1:]
    assert paragraphs and all(text.rstrip()[-1] in ".:" for text in paragraphs)


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_every_setting_with_its_meaning_unit_and_default(verb, capsys):
    code, out = main([*verb.split(), "--help"]), capsys.readouterr().out
    shown = " ".join(out.split())
    entries = {
        entry.split()[0].rstrip(","): " ".join(entry.split())
        for entry in re.split(r"\n  (?=-)", out)[1:]
    }
    assert (
        code == 0
        and shown.startswith(f"usage: xmae {verb} ")
        and {"--config", "--json"} <= set(entries)
    )
    for parameter in signature(function_of(verb)).parameters.values():
        entry = entries[f"--{parameter.name.replace('_', '-')}"]
        default = parameter.default
        default = (
            str(default).lower()
            if isinstance(default, bool | None)
            else default
            if default != ""
            else '""'
        )
        explained, _, facts = entry.rpartition(" (")
        kind, _, fact = facts.rstrip(")").partition("; ")
        assert fact == ("required" if default is parameter.empty else f"default: {default}"), entry
        assert any(name in kind for name in KINDS.values()) and len(explained.split()) >= 4, entry
    for words in UNITS.get(verb, ()):
        assert words in shown


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_overview_lists_the_verbs(capsys, arguments):
    code, out, err = run(capsys, *arguments)
    assert code == 0 and not err
    assert re.findall(r"^  (\w+(?: \w+)?)  +\S", out, re.MULTILINE) == list(VERBS)


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepair"], r"unknown verb 'prepair'; did you mean prepare\?$"),
        (["--json"], "unknown verb '--json'; expected one of prepare, data report"),
        (
            ["data"],
            (
                "unknown verb 'data'; expected one of data report, data verify, data relabel, data "
                "clocks, data example\n"
            ),
        ),
        (["data", "check", "store"], "unknown verb 'data'; expected one of data report"),
        (["data", "verify"], "data verify: --store must be given; see xmae data verify --help"),
        (
            ["embed", "a.npz", "--modle", "base"],
            r"embed has no option --modle; did you mean --model\?",
        ),
        (["embed", "a.npz", "--mod", "base"], "embed has no option --mod"),  # none may be shortened
        (
            ["pretrain", "store", "--epoch", "3"],
            r"pretrain has no option --epoch; did you mean --epochs\?",
        ),
        (["pretrain", "store", "--seed.x=3"], "pretrain has no option --seed.x"),
        (["embed", "a.npz", "--sfreq", "fast"], "--sfreq: 'fast' is not a number"),
        (["embed", "a.npz", "b.npz"], "--file: one value expected, got 2: a.npz b.npz"),
        (["embed", "a.npz", "--out"], "--out: one value expected, got none"),
        (["embed"], "embed: --file must be given"),
        (["embed", "a.npz", "-v"], "embed has no option -v; see xmae embed --help"),
        (
            ["pretrain", "store", "--options", "rate"],
            r"no option --options; did you mean --options.NAME\?",
        ),
        (["pretrain", "store", "--options.rate"], "--options.rate: one value expected, got none"),
        (["prepare", "--out", "x"], "--inputs must be given"),
        (["prepare", "a.npz", "--seed", "1.5"], "--seed: '1.5' is not a whole number"),
        (["pretrain", "store", "--epochs", "many"], "--epochs: 'many' is not a whole number"),
        (["pretrain", "store", "--resume=perhaps"], "--resume: 'perhaps' is not true or false"),
        (["demo", "--config", "absent.yaml"], "absent.yaml"),
        (
            ["embed", "a.npz", "--target", "tflite"],
            "unknown --target 'tflite'; expected one of litert, executorch",
        ),
        (["embed", "a.npz", "--target", "onnx"], "--target onnx: base is no bundle"),
        (["embed", "."], "a folder; expected one recording$"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert re.search(message, complaint(capsys, *arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", VERBS)
def test_too_few_or_too_many_words_name_what_is_missing(verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parameters = signature(described(verb)).parameters
    required = [f"--{name}" for name, p in parameters.items() if p.default is p.empty]
    first = parameters[next(iter(parameters))]
    for words in ([], ["here"], ["here", "there"]):
        missing = set(required) - ({f"--{first.name}"} if words else set())
        a_list = first.annotation == list[str]
        if not missing and (a_list or len(words) < 2):
            continue  # nothing is missing: the verb would run
        line = complaint(capsys, *verb.split(), *words)
        assert missing <= set(re.findall(r"--[\w-]+", line)), line
        assert a_list or len(words) < 2 or f"--{first.name}: one value expected, got 2" in line
    line = complaint(capsys, *verb.split(), "here", f"--{first.name}", "there")
    assert line == f"xmae: {verb}: --{first.name} is given twice: here --{first.name} there\n"
    assert not list(tmp_path.iterdir())


def test_the_first_word_may_come_last(calls, capsys):
    assert run(capsys, "try", "--name", "base", "a", "b")[0] == 0
    assert calls[-1]["inputs"] == ["a", "b"] and calls[-1]["name"] == "base"
    line = complaint(capsys, "embed", "--out", "here", "absent.npz")
    assert line == "xmae: absent.npz: no such file\n"
    line = complaint(capsys, "distill", "--data", "store", "base", "student")
    assert line == "xmae: --teacher: one value expected, got 2: base student\n"


def test_as_a_process_without_waiting_for_pytorch():
    command = [
        sys.executable,
        "-c",
        WITHOUT_TORCH,
        "embed",
        "absent.npz",
        "--model",
        "absent.safetensors",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "xmae: absent.npz: no such file\n"


def test_words_dashes_and_flags(calls, capsys):
    attempt, *_ = calls
    assert (
        run(
            capsys, "try", "a.npz", "b c.npz", "--record-baseline", "--n-windows", "3", "--rate=50"
        )[0]
        == 0
    )
    assert run(capsys, "try", "a", "--record-baseline")[0] == 0
    assert run(capsys, "try", "a", "--record_baseline", "false", "--limit", "-1")[0] == 0
    assert (
        run(
            capsys,
            "try",
            "--inputs",
            "x",
            "y",
            "--name",
            "student-mcu",
            "--out",
            "my-run",
            "--limit=null",
        )[0]
        == 0
    )
    _, first, second, third, fourth = calls
    assert first["inputs"] == ["a.npz", "b c.npz"] and first["record_baseline"] is True
    assert (first["n_windows"], first["rate"], first["limit"]) == (3, 50.0, None)
    assert second["inputs"] == ["a"] and second["record_baseline"] is True
    assert third["record_baseline"] is False and third["limit"] == -1
    assert (fourth["inputs"], fourth["name"], fourth["out"]) == (
        ["x", "y"],
        "student-mcu",
        "my-run",
    )
    assert not fourth["record_baseline"]
    assert (
        run(
            capsys,
            "try",
            "--rate",
            "50",
            "--inputs",
            "x",
            "y z",
            "--record-baseline",
            "--limit",
            "-1",
        )[0]
        == 0
    )
    assert (calls[-1]["inputs"], calls[-1]["record_baseline"], calls[-1]["limit"]) == (
        ["x", "y z"],
        True,
        -1,
    )


def test_config_file_and_the_line_over_it(calls, capsys, tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text(
        "inputs: [a, b]\nrate: 62.5\nn-windows: 7\nrecord_baseline: true\noptions: {a: 1, b: x}\n"
    )
    assert run(capsys, "try", "--config", config, "--n-windows", "9")[0] == 0
    assert run(capsys, "try", "c", "--n-windows=8", f"--config={config}")[0] == 0
    _, first, second = calls
    assert (first["inputs"], first["rate"], first["n_windows"]) == (["a", "b"], 62.5, 9) and first[
        "record_baseline"
    ]
    assert (second["inputs"], second["rate"], second["n_windows"]) == (["c"], 62.5, 8)
    assert first["options"] == {"a": 1, "b": "x"}
    assert run(capsys, "try", "c", "--options.rate=1e-3", "--options.channels", "II,V")[0] == 0
    assert calls[-1]["options"] == {"rate": 0.001, "channels": "II,V"}


def test_the_run_folder_says_what_was_asked_and_what_came_out(calls, capsys, tmp_path):
    assert (
        run(capsys, "try", "a b", "c", "--n-windows", "9", "--out", "here", "--record-baseline")[0]
        == 0
    )
    assert json.loads((tmp_path / "here" / "metrics.json").read_text()) == {
        "windows": 9,
        "out": "here",
    }
    assert run(capsys, "try", "--config", "here/config.yaml")[0] == 0
    _, first, second = calls
    assert second == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: [", "not readable as settings in YAML"),
        ("rate: fast", "rate: 'fast' is not a number"),
        ("rate: true", "rate: True is not a number"),
        ("n_windows: 1.5", "n_windows: 1.5 is not a whole number"),
        ("limits: 3", "try has no setting 'limits'; did you mean limit?"),
        ("- a", "expected settings"),
        ("config: x.yaml", "no setting 'config'"),
    ],
)
def test_a_config_file_that_cannot_be_used(calls, capsys, tmp_path, text, message):
    config = tmp_path / "settings.yaml"
    config.write_text(f"{text}\n")
    said = complaint(capsys, "try", "a", "--config", config)
    assert said.startswith(f"xmae: {config}: ") and message in said and len(calls) == 1


def test_json_alone_on_standard_output(calls, capsys):
    code, out, err = run(capsys, "try", "a", "--json", "--n-windows", "4")
    assert code == 0 and json.loads(out) == {"windows": 4, "out": "runs/try"} and "chatters" in err
    code, out, err = run(capsys, "try", "a", "--n-windows", "4")
    assert out == "runs/try\n" and "chatters" in err  # the last line says where the result is
    calls[0].result = {"summary": ["4 windows", "none dropped"]}
    code, out, err = run(capsys, "try", "a")
    assert out == "runs/try\n" and err.splitlines()[-2:] == ["4 windows", "none dropped"]


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_gate_that_is_not_passed_is_code_1(calls, capsys, passed, code, as_json):
    calls[0].result = {"passed": passed}
    assert run(capsys, "try", "a", *as_json)[0] == code


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("a.npz: two\nlines"), "xmae: a.npz: two lines"),
        (KeyboardInterrupt(), "xmae: interrupted"),
        (
            ModuleNotFoundError("no", name="executorch"),
            "xmae: try needs executorch, which is not installed",
        ),
        (OSError(28, "No space left on device"), "xmae: try: No space left on device"),
        (PermissionError(13, "Permission denied", "/store"), "xmae: /store: Permission denied"),
    ],
)
def test_what_can_go_wrong_in_a_verb(calls, capsys, error, message):
    calls[0].error = error
    code, out, err = run(capsys, "try", "a")
    assert code == 2 and out == "" and err.splitlines()[0] == "a library chatters"
    assert err.splitlines()[1].startswith(message) and len(err.splitlines()) == 2


def test_a_bug_is_not_hidden(calls):
    calls[0].error = ZeroDivisionError("bug")
    with pytest.raises(ZeroDivisionError):
        main(["try", "a"])


def test_other_processes_of_a_training_say_nothing(calls, capsys, monkeypatch):
    by_torchrun = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (by_torchrun | {"TORCHELASTIC_RUN_ID": "7"}).items():
        monkeypatch.setenv(name, value)
    assert run(capsys, "try", "a", "--json")[:2] == (0, "")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")  # a pod's variables alone say nothing
    code, out, _ = run(capsys, "try", "a", "--json")
    assert code == 0 and out


def test_prepare_several_recordings(capsys, tmp_path):
    files = [str(path) for path in bidmc_files()[:2]]
    code, out, _ = run(
        capsys,
        "prepare",
        *files,
        "--out",
        tmp_path / "store",
        "--split",
        "0.5,0.5,0",
        "--min-quality",
        "-1",
        "--json",
    )
    result = json.loads(out)
    assert code == 0 and result["recordings"] == 2 and result["windows"] == 96
    assert len(WindowStore(result["out"]).windows()) == 96


def test_embed_gives_a_row_a_window(encoder, capsys, tmp_path):
    code, out, _ = run(
        capsys, "embed", RECORDING, "--model", encoder, "--out", tmp_path / "run", "--json"
    )
    result, windows = json.loads(out), prepare_recording(read_recording(RECORDING), -1)[0]
    table = pd.read_csv(result["out"])
    assert (
        code == 0
        and result["windows"] == len(table) == 48
        and result["dropped"] == result["median"] == {}
    )
    assert list(table) == ["record", "start_s", "ppg_quality", *(f"e{i}" for i in range(128))]
    np.testing.assert_array_equal(table["start_s"], np.arange(48) * 10)
    np.testing.assert_allclose(
        table.filter(regex=r"^e\d"), embed_windows(load_encoder(encoder), windows), atol=1e-6
    )


@pytest.mark.parametrize("model", ["beats-mcu", "base"])
def test_embed_with_a_model_that_finds_beats_gives_them(capsys, tmp_path, model):
    """They are the ECG's beats of the same minute, and the heart rates are those of the beats."""
    path = tmp_path / "recording.csv"
    assert run(capsys, "data", "example", "--out", path)[0] == 0
    code, out, err = run(capsys, "embed", path, "--model", model, "--out", tmp_path / "run")
    table, beats = pd.read_csv(out.strip()), pd.read_csv(tmp_path / "run" / "beats.csv")
    assert code == 0 and len(beats) == table["n_beats"].sum()
    median = f"median {table['hr'].median():.1f} bpm, given in 6 of 6 windows"
    assert f"Heart rate of the beats: {median}; {len(beats)} beats in beats.csv" in err
    ecg = neurokit2.ecg_clean(pd.read_csv(path)["ecg [mV]"], sampling_rate=125)
    truth = neurokit2.ecg_peaks(ecg, sampling_rate=125)[1]["ECG_R_Peaks"] / 125
    delay = np.median([t - truth[truth < t].max() for t in beats["time_s"] if t > truth.min()])
    apart = np.abs(beats["time_s"].to_numpy()[:, None] - delay - truth).min(1)
    assert (apart < 0.15).mean() > 0.95
    first = beats[beats["time_s"] < 10]
    rate = 60 * (len(first) - 1) / (first["time_s"].max() - first["time_s"].min())
    assert table["hr"][0] == pytest.approx(rate, abs=0.02)
    known = beats["interval_s"].dropna()
    assert known.to_numpy() == pytest.approx(beats["time_s"].diff()[known.index], abs=1e-3)
    # a model without beats leaves none of an older run beside its table
    assert run(capsys, "embed", path, "--model", "student-mcu-s", "--out", tmp_path / "run")[0] == 0
    assert not (tmp_path / "run" / "beats.csv").exists()


def test_a_heart_rate_that_is_not_sure_enough_is_not_given(capsys, tmp_path):
    noise = np.random.default_rng(1).normal(size=7500)
    columns = {"time [s]": np.arange(7500) / 125, "ppg": noise}
    pd.DataFrame(columns).to_csv(tmp_path / "noise.csv", index=False)
    out = tmp_path / "run"
    code, _, err = run(
        capsys, "embed", tmp_path / "noise.csv", "--model", "beats-mcu", "--out", out
    )
    table = pd.read_csv(out / "embeddings.csv")
    assert code == 0 and table["hr"].isna().all() and "given in 0 of 6 windows" in err


def test_the_example_is_embedded_and_its_channels_swapped_are_refused(capsys, tmp_path):
    path = tmp_path / "recording.csv"
    assert run(capsys, "data", "example", "--out", path)[:2] == (0, f"{path}\n")
    code, out, err = run(capsys, "embed", path, "--out", tmp_path / "run")
    table = pd.read_csv(out.strip())
    lines = err.splitlines()
    quality, rate = lines[lines.index("6 windows of 10 s at 125 Hz") + 1 :]
    assert code == 0 and len(table) == 6
    clear = (table["ppg_quality"] >= 0.8).sum()
    assert quality.endswith(f"a clear pulse (0.8 or more) in {clear} of 6 windows")
    assert f"median {table['hr'].median():.1f} bpm, given in 6 of 6 windows" in rate
    ecg = neurokit2.ecg_clean(pd.read_csv(path)["ecg [mV]"], sampling_rate=125)
    truth = neurokit2.ecg_peaks(ecg, sampling_rate=125)[1]["ECG_R_Peaks"] / 125
    # some beats of this heart have no pulse, so a window counts fewer of them than the ECG;
    # between pulses that follow each other the interval is the heart's
    interval = pd.read_csv(tmp_path / "run" / "beats.csv")["interval_s"].median()
    assert 60 / interval == pytest.approx(60 / np.median(np.diff(truth)), abs=2)
    swapped = pd.read_csv(path).rename(columns={"ppg": "ecg", "ecg [mV]": "ppg"})
    swapped.to_csv(tmp_path / "swapped.csv", index=False)
    assert "ppg and ecg look swapped" in complaint(capsys, "embed", tmp_path / "swapped.csv")
    assert complaint(capsys, "embed", tmp_path).endswith(
        f"expected one recording, such as {path}\n"
    )
    (tmp_path / "a.hea").write_text("a 1 125 100\na.dat 16 1/NU 16 0 0 0 0 PLETH\n")
    (tmp_path / "a.dat").write_bytes(b"")
    assert f"give its header, {tmp_path / 'a.hea'}" in complaint(
        capsys, "embed", tmp_path / "a.dat"
    )


def test_embed_drops_missing_windows_and_says_so(encoder, capsys, tmp_path):
    recording = read_recording(RECORDING)
    ppg = recording.ppg[: 125 * 40].copy()
    ppg[125 * 12] = np.nan
    ppg[125 * 30 :] = 0.5
    np.savez(tmp_path / "gaps.npz", ppg=ppg, fs=125)
    code, out, _ = run(
        capsys, "embed", tmp_path / "gaps.npz", "--model", encoder, "--out", tmp_path, "--json"
    )
    result = json.loads(out)
    assert code == 0 and result["windows"] == 2 and result["dropped"] == {"missing": 1, "flat": 1}
    assert pd.read_csv(result["out"])["start_s"].tolist() == [0, 20]


def test_embed_of_a_table_wants_its_rate(encoder, capsys, tmp_path):
    recording = read_recording(RECORDING)
    path, options = tmp_path / "walk.csv", ("--model", encoder, "--out", tmp_path / "run")
    pd.DataFrame({"ppg": recording.ppg[: 125 * 35]}).to_csv(path, index=False)
    assert "walk.csv: no sampling rate" in complaint(capsys, "embed", path, *options)
    assert not (tmp_path / "run").exists()
    code, out, _ = run(capsys, "embed", path, *options, "--sfreq", "125")
    table = pd.read_csv(out.strip())
    assert code == 0 and table["start_s"].tolist() == [0, 10, 20]
    expected = embed_windows(
        load_encoder(encoder), prepare_recording(read_recording(path, sfreq=125), -1)[0]
    )
    np.testing.assert_allclose(table.filter(regex=r"^e\d"), expected, atol=1e-6)


def test_embed_reads_every_recording_of_a_file_by_the_users_names(encoder, capsys, tmp_path):
    ppg = read_recording(RECORDING).ppg
    with h5py.File(tmp_path / "day.h5", "w") as file:
        for name in ("morning", "night"):
            file.create_dataset(f"{name}/green_1", data=ppg[: 125 * 20]).attrs["fs"] = 125
    (tmp_path / "watch.yaml").write_text("ppg: green_1\n")
    options = ("--model", encoder, "--out", tmp_path / "run", "--json")
    assert "PPG" in complaint(capsys, "embed", tmp_path / "day.h5", *options)
    channels = ("--channels", tmp_path / "watch.yaml")
    code, out, _ = run(capsys, "embed", tmp_path / "day.h5", *options, *channels)
    table = pd.read_csv(json.loads(out)["out"])
    assert (
        code == 0 and table["start_s"].tolist() == [0, 10, 0, 10] and table["record"].nunique() == 2
    )


@pytest.mark.parametrize("words", ["--help", "prepare --help"])
def test_a_reader_who_leaves_early_is_no_error(words):
    ours = subprocess.Popen(
        [sys.executable, "-m", "xmae", *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ours.stdout.close()
    assert ours.stderr.read() == "" and ours.wait() == 0
