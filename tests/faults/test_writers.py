"""The fast part of the faults of writers; the whole is `make faults`."""

from itertools import chain

import pytest

from . import writers


@pytest.fixture(scope="module")
def rows():
    return list(writers.run_writers(kills=1))


def test_nothing_is_lost_and_nothing_is_left(rows):
    assert list(chain.from_iterable(row.failures for row in rows)) == []


def test_every_fault_was_tried(rows):
    tried = {row.name: row.tried for row in rows}
    assert all(tried.values())
    for writer in writers.WRITERS:
        assert tried[f"{writer.name}: killed at each step"] > 10


def test_the_harness_sees_what_is_lost(tmp_path):
    def careless(folder, generation):
        (folder / "result.bin").write_bytes(writers.content_of(generation))

    writer = writers.WRITERS[0]
    bad = writers.Writer("careless", careless, writer.read, writer.names)
    row = writers.Row("careless")
    place = tmp_path / "place"
    place.mkdir()
    (place / "result.bin").write_bytes(writers.content_of(2)[:99])
    row.add(writers.state_after(bad, place, 1, 2))
    (place / "result.bin").write_bytes(writers.content_of(5))
    row.add(writers.state_after(bad, place, 1, 2))
    (place / "result.bin").write_bytes(writers.content_of(2))
    (place / "other").write_text("left")
    row.add(writers.state_after(bad, place, 1, 2))
    assert len(row.failures) == row.tried == 3
