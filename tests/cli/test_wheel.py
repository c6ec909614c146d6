"""The built wheel in a bare environment reads a recording, light and fast."""

import pytest

from xmae.benchmarks.release.check_wheel import check


@pytest.mark.extended
@pytest.mark.slow
def test_the_light_wheel_reads_a_recording_in_a_bare_environment(watch_bundle):
    found = check("lite", watch_bundle.path)
    assert found["megabytes"] < 200
    assert found["import_s"] < 0.3 and found["help_s"] < 0.3
    assert found["windows"] > 10 and 30 < found["median"]["hr"] < 220
