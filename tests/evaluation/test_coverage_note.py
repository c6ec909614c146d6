"""Every table with bootstrap-t intervals says in its head how often they hold the truth."""

from pathlib import Path

import pytest

from xmae.evaluation.protocol.bootstrap import COVERAGE_NOTE

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STUDIES = [
    path.stem
    for path in sorted((BENCHMARKS / "studies").glob("*.py"))
    if "mean_with_interval(" in path.read_text()
]


def test_the_note_has_the_numbers_of_the_simulation():
    rows = (BENCHMARKS / "results" / "interval_coverage.md").read_text().splitlines()
    at_34 = [row.split("|")[3].split()[0] for row in rows if "| 34 |" in row]
    assert len(at_34) == 3 and f"{min(at_34)} to {max(at_34)} %" in COVERAGE_NOTE


@pytest.mark.parametrize("study", STUDIES)
def test_studies_and_their_pages_carry_it(study):
    assert "{COVERAGE_NOTE}" in (BENCHMARKS / "studies" / f"{study}.py").read_text()
    page = BENCHMARKS / "results" / f"{study}.md"
    assert not page.exists() or COVERAGE_NOTE in " ".join(page.read_text().split())


def test_there_are_such_studies():
    assert {"readings", "certainty", "tiers", "latency"} <= set(STUDIES)
