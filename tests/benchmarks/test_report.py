"""The report page: complete, self-contained, and silent about what was not run."""

import re
import shutil
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from xmae.benchmarks.harness.hardware import hardware
from xmae.benchmarks.report import charts
from xmae.benchmarks.report.charts import draw_pareto, front
from xmae.benchmarks.report.page import (
    layer_bars,
    merge_probes,
    number,
    size,
    summary_lines,
    write_report,
)

VOID = {"meta", "img", "br"}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Balanced(HTMLParser):
    """Checks that every tag is closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def probe_result(name, value):
    entry = {
        "value": value,
        "interval": [value - 1, value + 1],
        "minus_first": 0.0,
        "minus_first_interval": [0.0, 0.0],
    }
    other = entry | {"value": value + 1, "minus_first": 1.0, "minus_first_interval": [0.5, 1.5]}
    hr = {
        "label": "Heart rate",
        "kind": "regression",
        "metric": "mae",
        "units": "bpm",
        "n_windows": 80,
        "n_subjects": 8,
    }
    hr |= {"baseline": 9.0, "encoders": {name: entry, "untrained": other, "features": other}}
    sex = {
        "label": "Sex (male)",
        "kind": "binary",
        "metric": "auroc",
        "units": "",
        "reason": "all are <one> class",
    }
    return {
        "model": name,
        "scored_subjects": 8,
        "fit_subjects": 23,
        "tasks": {"hr": hr, "sex": sex},
    }


def model_row(**changes):
    row = {
        "model": "student",
        "format": "litert",
        "precision": "int8",
        "bytes": 301568,
        "macs": 3.7e6,
    }
    row |= {
        "cosine": {"median": 0.9999, "p5": 0.999},
        "centred": {"median": 0.9987, "p5": 0.9912},
        "max_error": 0.1,
    }
    row["heads"] = {
        "hr": {"metric": "mae", "units": "bpm", "value": 3.25, "reference": 3.2, "change": 0.05}
    }
    row |= {
        "latency_ms": 0.513,
        "latency_interval": [0.5, 0.53],
        "mac_per_s": 7.2e9,
        "violations": [],
    }
    return row | {"peak_memory_bytes": 312e6, "model_memory_bytes": 2.5e6} | changes


@pytest.fixture
def results(tmp_path):
    picture = tmp_path / "reconstruction.png"
    Figure().savefig(picture)
    missing = {
        "model": "student",
        "format": "onnx",
        "precision": "int8",
        "bytes": 1,
        "macs": None,
        "violations": [],
    }
    rows = [
        model_row(),
        model_row(format="executorch", violations=["too far"]),
        missing | {"missing": "no onnxruntime"},
    ]
    rows.append(
        missing | {"format": "pytorch", "failure": "crash", "violations": ["does not run: crash"]}
    )
    limit = {
        "min_cosine": 0.98,
        "min_cosine_p5": 0.95,
        "max_hr_change": 0.5,
        "max_auroc_change": 0.01,
    }
    gate = {
        "passed": False,
        "violations": ["too far"],
        "checked": 2,
        "limits": {"int8": limit},
        "windows": 80,
    }
    gate |= {"not_checked": ["no onnxruntime: 1 file not checked"], "subjects": 8}
    reference = {"device": "a GPU", "torch": "2.13", "latency_ms": {"teacher": 1.5}}
    return {
        "prepare": {
            "recordings": 37, "windows": 1339, "dropped": {"ppg_quality": 437},
            "windows_by_split": {"train": 980, "val": 117, "test": 242},
            "subjects_by_split": {"train": 23, "val": 3, "test": 8},
        },
        "pretrain": {
            "val_loss": 0.06, "variance": 0.1, "val_ratio": 0.6, "picture": str(picture),
            "device": "a CPU",
            "history": {"epoch": [0, 1], "train_loss": [0.1, 0.07], "val_loss": [0.1, 0.06]},
        },
        "probe": [probe_result("xmae", 3.0), probe_result("student", 3.4)],
        "distill": {"centred_cosine": 0.91, "out": "/run"},
        "quantize": {"windows": 256, "centred": {"median": 0.99, "p5": 0.97}, "out": "/run"},
        "export": {"models": [model_row(undelegated=["aten.cat"]), model_row(undelegated=[])]},
        "validate": gate | {"models": rows, "hardware": hardware(), "reference": reference},
        "provenance": {"Data": "BIDMC, ODC-By 1.0"},
    }  # fmt: skip


def test_the_page_is_whole_and_needs_nothing_else(results, tmp_path):
    page = write_report(results, tmp_path / "out").read_text()
    parser = Balanced()
    parser.feed(page.split("<!doctype html>")[1])
    assert parser.open == []
    assert page.count("<script>") == page.count("<script") == 1 and "<link" not in page
    assert set(re.findall(r'src="([^,"]+)', page)) == {"data:image/png;base64"}
    assert not re.search(r"url\((?!#)", page)
    expected = (
        "1,339",
        "0.99870",
        "3.25",
        "0.513",
        "302 kB",
        "no onnxruntime",
        "does not run: crash",
        "aten.cat",
        "ODC-By",
    )
    for said in expected:
        assert said in page, said
    assert "all are &lt;one&gt; class" in page and "/run" not in page
    # loss, probe, error and drift against three costs
    assert page.count("<svg") == 8 and 'name="viewport"' in page


@pytest.mark.parametrize(
    "kept", [[], ["probe"], ["validate"], ["prepare", "pretrain"], ["quantize"]]
)
def test_what_did_not_run_is_left_out(results, tmp_path, kept):
    page = write_report({name: results[name] for name in kept}, tmp_path).read_text()
    assert ("Drift gate" in page) == ("validate" in kept) and ("Recordings" in page) == (
        "prepare" in kept
    )
    assert "arXiv 2605.00973" in page


def test_the_summary_has_five_lines_with_the_measured_numbers(results):
    lines = summary_lines(results)
    assert len(lines) == 5
    assert "1,339 of 1,776" in lines[0] and "60 %" in lines[1] and "FAILED" in lines[4]
    assert "xmae 3.00" in lines[2] and "student 3.40" in lines[2] and "0.513 ms" in lines[3]


def test_probes_side_by_side(results):
    merged = merge_probes(results["probe"])
    assert merged["encoders"] == ["xmae", "untrained", "features", "student", "untrained student"]
    # not changed
    assert list(results["probe"][0]["tasks"]["hr"]["encoders"]) == ["xmae", "untrained", "features"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.5134, "0.513"),
        (12.345, "12.3"),
        (123.4, "123"),
        (12345.6, "12,346"),
        (5, "5"),
        (None, "–"),
        (True, "yes"),
        (float("nan"), "–"),
        ("a", "a"),
        (999.96, "1,000"),
    ],
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_sizes():
    assert [size(n) for n in (900, 301568, 9_323_816, None)] == ["1 kB", "302 kB", "9.3 MB", "–"]


def test_the_front_is_what_nothing_beats_in_both():
    points = [(3, 1.0, "c"), (1, 5.0, "a"), (2, 5.0, "beaten"), (2, 3.0, "b"), (4, 2.0, "beaten")]
    assert [name for _, _, name in front(points)] == ["a", "b", "c"]
    assert (
        draw_pareto([model_row()]) == []
        and len(draw_pareto([model_row(), model_row(bytes=9)])) == 6
    )


def test_the_pareto_pictures_tell_models_apart_and_leave_fp32_out_of_the_drift():
    rows = [
        model_row(),
        model_row(model="student-app", bytes=9),
        model_row(precision="fp32", bytes=99),
    ]
    errors = draw_pareto(rows)[:3]
    assert all(
        "student-app" in picture and picture.count("heart-rate error") == 1 for picture in errors
    )
    assert len(draw_pareto([model_row(), model_row(precision="fp32", bytes=99)])) == 3


def test_estimates_are_ringed_and_rows_on_other_windows_are_not_on_the_front(monkeypatch):
    lines = []
    monkeypatch.setattr(charts, "front", lambda points: lines.append(points) or front(points))
    rows = [model_row(windows=384), model_row(windows=384, bytes=9)]
    few = model_row(windows=16, bytes=1, kind="estimated", format="c")
    assert not any("estimated" in picture for picture in draw_pareto(rows))
    assert all("estimated" in picture for picture in draw_pareto([*rows, few]))
    assert [few in [row for _, _, row in points] for points in lines] == [False] * 12


def test_small_operators_are_summed_up():
    layers = [{"name": f"op {i}", "op": "op", "us": us} for i, us in enumerate((100, 50, 0.1, 0.2))]
    ((_, total, bars),) = layer_bars([model_row(layers=layers), model_row(layers=None)])
    assert total == pytest.approx(150.3)
    assert [name for name, _, _ in bars] == ["op 0", "op 1", "2 smaller"] and bars[1][2] == 0.5


@pytest.fixture
def benchmark():
    """Return a result of `xmae bench`: measured, estimated, recorded, missing."""
    layers = [{"name": f"Convolution #{i}", "op": "Convolution", "us": 10.0 + i} for i in range(30)]
    threads = {"threads": 2, "latency_ms": 0.3, "latency_interval": [0.29, 0.32]}
    seen = {
        "device": "host",
        "kind": "measured",
        "histogram": [0, 1, 5, 30, 2, *[0] * 9],
        "cold_start_ms": 12.0,
    }
    measured = model_row(all_threads=threads, code_bytes=9e6, layers=layers, **seen)
    estimate = {
        "format": "c",
        "device": "apollo4",
        "kind": "estimated",
        "latency_ms": 90.0,
        "energy_mj": 0.5,
    }
    gpu = {
        "model": "teacher",
        "format": "pytorch",
        "precision": "bf16",
        "device": "a GPU",
        "kind": "recorded",
    }
    rows = [
        measured,
        model_row(**seen | estimate, bytes=187_000, energy_interval=[0.2, 1.0], layers=layers[:3]),
        model_row(
            **seen,
            model="teacher",
            precision="fp32",
            format="onnx",
            bytes=9_000_000,
            latency_ms=8.25,
        ),
        gpu | {"latency_ms": 1.0, "bytes": 5_000_000, "macs": 1e8},
        {
            "model": "student",
            "format": "executorch",
            "precision": "int8",
            "bytes": 1,
            "macs": None,
            "missing": "the runtime for pte is absent",
        },
        gpu | {"kind": "measured", "bytes": 9, "macs": 1, "failure": "the process died of SIGSEGV"},
        model_row(
            **seen, format="onnx", bytes=313_000, latency_ms=2.0, profile_failure="KeyError: 'dur'"
        ),
    ]
    for row in rows:
        row |= (
            {"windows": 16 if row.get("kind") == "estimated" else 384} if "centred" in row else {}
        )
    result = {"models": rows, "hardware": hardware(), "load": [1.5, 2.5], "subjects": 8}
    reference = {"device": "a GPU", "torch": "2.13", "latency_ms": {"teacher": 1.5}}
    result |= {
        "regressions": ["student int8: slower"],
        "not_compared": "the earlier run scored other windows",
    }
    return result | {"reference_info": reference}


def test_the_benchmark_page_says_what_was_measured_and_what_was_not(benchmark, tmp_path):
    page = write_report({"bench": benchmark}, tmp_path).read_text()
    parser = Balanced()
    parser.feed(page.split("<!doctype html>")[1])
    expected = (
        "estimated", "recorded", "apollo4", "the runtime for pte", "1 worse", "90.0", "16 windows",
        "384 windows", "the process died of SIGSEGV", "teacher bf16 pytorch.",
        "No profile of student int8, ONNX Runtime: KeyError", "scored other windows",
    )  # fmt: skip
    for said in expected:
        assert said in page, said
    assert page.count('class="bins"') == 4 and page.count("<details>") == 2


@pytest.mark.extended
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_works_in_a_browser(results, benchmark, tmp_path, width):
    playwright = pytest.importorskip("playwright.sync_api")
    path = write_report(results | {"bench": benchmark}, tmp_path)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800})
        complaints, asked = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())

        def column(number):
            return page.eval_on_selector_all(
                "#costs tr", f"rows => rows.slice(1).map(row => row.cells[{number}].dataset.v)"
            )

        head = page.locator("#costs th").nth(2)
        head.click()
        by_number = ["0.513", "1.0", "2.0", "8.25", "90.0"]
        assert column(2) == [*by_number, "", ""]  # what was not measured comes last
        head.press("Enter")
        assert (
            column(2) == [*by_number[::-1], "", ""]
            and head.get_attribute("aria-sort") == "descending"
        )
        page.locator("summary").first.click()
        assert page.locator(".bar").first.is_visible()
        # tables scroll inside, the page does not
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = page.eval_on_selector_all(
            "p, td, dd", "all => all.map(x => parseFloat(getComputedStyle(x).fontSize))"
        )
        assert min(sizes) >= 12
        browser.close()
    assert complaints == [] and all(url.startswith(("file:", "data:")) for url in asked)
