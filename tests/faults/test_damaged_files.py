"""The fast part of the harness: a few damaged files of each kind; the whole is `make faults`."""

import pytest

from . import corpus, kind, run

CASES = 4  # the fourth of a recording has forged signals


@pytest.mark.parametrize("name", corpus.KINDS)
def test_damaged_files_are_read_or_refused_in_one_line(name):
    outcomes, most = run.run_kind(corpus.KINDS[name], range(CASES))
    assert len(outcomes) == CASES
    failed = {k: said for k, said in outcomes.items() if said not in ("read", "refused")}
    assert not failed and most < run.MEMORY >> 20


def test_the_harness_sees_each_way_to_fail():
    def crash(path):
        number = int(path.parent.name) if path.parent.name.isdigit() else -1
        if number == 1:
            raise KeyError("field")
        if number == 2:
            run.os.kill(run.os.getpid(), run.signal.SIGSEGV)
        if number == 3:
            return bytearray(run.MEMORY + (64 << 20)).count(1)
        return None

    own = kind.Kind("own", kind.write_text("a.csv", "a,b\n1,2\n"), crash)
    outcomes, _ = run.run_kind(own, range(4))
    assert outcomes[0] == "read" and outcomes[2] == "killed: SIGSEGV"
    assert outcomes[1].startswith("traceback: KeyError")
    assert outcomes[3].startswith("too much memory")


def test_cases_are_the_same_each_time(tmp_path):
    splits, made = corpus.KINDS["splits"], []
    for name in ("a", "b"):
        (tmp_path / name / "whole").mkdir(parents=True)
        splits.write(tmp_path / name / "whole", {})
        run.make_case(splits, 4, tmp_path / name, tmp_path / name / "whole")
        made.append((tmp_path / name / "s.csv").read_bytes())
    assert made[0] == made[1]
