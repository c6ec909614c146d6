"""The endpoints of beats and heart rate: on beats that are known, against plain sums, and what a
table may claim.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from xmae.beats.intervals import beats_by_window, irregularity, premature_share, variability
from xmae.beats.reading import Reading
from xmae.beats.truth import rate_of_beats
from xmae.data.store.windows import Windows
from xmae.evaluation.protocol.beat_matching import match_beats, matched_intervals, pair
from xmae.evaluation.protocol.beat_scores import (
    detection_auroc,
    interval_coverage,
    interval_scores,
    match_scores,
    rate_scores,
    score_reading,
    subject_means,
    surest,
    true_values,
    value_scores,
)
from xmae.evaluation.protocol.bootstrap import mean_interval, mean_with_interval
from xmae.evaluation.protocol.paired import least_p, power_note, sign_flip_test

N_WINDOWS, N_SUBJECTS = 6, 4


def trains(rng, mean=0.8, spread=0.05):
    """Return the beats of one recording of 60 s, s, ascending."""
    time = np.cumsum(rng.normal(mean, spread, 100))
    return time[time < 10 * N_WINDOWS]


def packed(time):
    """Return the times in the recording as beats of its windows: (n_windows, 40)."""
    beats = np.full((N_WINDOWS, 40), np.nan, np.float32)
    for k in range(N_WINDOWS):
        inside = time[(time >= 10 * k) & (time < 10 * k + 10)] - 10 * k
        beats[k, : len(inside)] = inside
    return beats


@pytest.fixture(scope="module")
def cohort():
    """Return four subjects with one recording each, their pulses 0.2 to 0.5 s late; and a perfect
    reading.
    """
    rng = np.random.default_rng(0)
    times = [trains(rng, mean) for mean in (0.7, 0.8, 0.9, 1.0)]
    beats = np.concatenate([packed(time) for time in times])
    late = np.concatenate([packed(time + 0.2 + 0.1 * k) for k, time in enumerate(times)])
    n, subject = len(beats), np.repeat(np.arange(N_SUBJECTS), N_WINDOWS)
    windows = Windows(
        ppg=np.zeros((n, 1000), np.float32), ecg=None, subject=subject.astype(str),
        record=subject.astype(str), start_s=np.tile(10.0 * np.arange(N_WINDOWS), N_SUBJECTS),
        ppg_quality=np.ones(n), ecg_quality=np.ones(n), split=np.full(n, ""),
        labels={"hr_ecg": rate_of_beats(beats)}, beats=beats,
    )  # fmt: skip
    window, time = beats_by_window(late)
    reading = Reading(window, time, np.ones(len(time)), rate_of_beats(late), np.ones(n))
    return windows, subject, reading


def scored(cohort, **changes):
    windows, subject, reading = cohort
    constants = {name: np.full(len(subject), 70.0) for name in true_values(windows)}
    changes = {"confidence": np.ones(len(changes.get("time", reading.time)))} | changes
    return score_reading(windows, subject, subject, replace(reading, **changes), constants)


def test_a_perfect_reading_with_a_delay_is_perfect(cohort):
    windows, subject, _ = cohort
    one = scored(cohort)
    match = match_scores(one)
    assert all(np.allclose(x, 1) for x in match.values())
    assert np.allclose(list(one.matched.lag_s.values()), [0.2, 0.3, 0.4, 0.5])
    errors = interval_scores(windows, subject, {"a": one}, np.ones(len(subject), bool))["a"]
    assert errors["median"].max() < 1e-3 and errors["share"] == pytest.approx(1, abs=0.02)
    assert rate_scores(one)["within"].mean() == 1 and rate_scores(one)["error"].max() < 2


def test_missing_and_extra_beats_cost_recall_and_precision(cohort):
    _, _, reading = cohort
    kept = np.arange(len(reading.time)) % 4 > 0  # each fourth beat is missed
    extra = reading.time[~kept][::2] + 0.35  # and each eighth is a false one
    order = np.lexsort(
        (
            np.concatenate([reading.time[kept], extra]),
            np.concatenate([reading.window[kept], reading.window[~kept][::2]]),
        )
    )
    changed = {
        name: np.concatenate([getattr(reading, name)[kept], new])[order]
        for name, new in (("window", reading.window[~kept][::2]), ("time", extra))
    }
    match = match_scores(scored(cohort, **changed))
    assert match["recall"].mean() == pytest.approx(0.75, abs=0.02)
    assert match["precision"].mean() == pytest.approx(6 / 7, abs=0.03)


def test_interval_errors_are_of_the_intervals_that_all_have(cohort):
    windows, subject, reading = cohort
    rng = np.random.default_rng(1)
    noisy = reading.time + rng.normal(0, 0.02, len(reading.time))
    kept = np.arange(len(reading.time)) % 5 > 0
    first = scored(cohort, time=noisy)
    second = scored(cohort, time=reading.time[kept], window=reading.window[kept])
    clean = np.ones(len(subject), bool)
    found = interval_scores(windows, subject, {"a": first, "b": second}, clean)
    assert found["a"]["share"] == found["b"]["share"] == pytest.approx(0.6, abs=0.05)
    # the difference of two errors of 20 ms: mean 20 sqrt(2) sqrt(2 / pi), median 0.67 of its spread
    assert found["a"]["mean"].mean() == pytest.approx(22.6, rel=0.15)
    assert found["a"]["median"].mean() == pytest.approx(19.1, rel=0.2)
    assert found["b"]["clean_mean"].max() < 1e-3
    _, truth, mine = matched_intervals(windows, subject, second.matched)
    assert np.isfinite(mine).mean() == pytest.approx(0.6, abs=0.05) and truth.min() > 0.4


def test_pairs_are_one_to_one_and_within_tolerance():
    truth, mine = np.array([1.0, 2.0, 3.0]), np.array([0.9, 1.05, 2.3, 3.1, 9.0])
    assert pair(truth, mine, np.full(3, 0.15)).tolist() == [1, -1, 3]
    assert pair(truth, mine[:0], np.full(3, 0.15)).tolist() == [-1, -1, -1]


def test_no_answer_scores_as_the_constant(cohort):
    windows, subject, reading = cohort
    rate = np.where(subject == 0, np.nan, reading.rate)
    one = scored(cohort, rate=rate)
    scores = rate_scores(one)
    assert scores["answered"].tolist() == [0, 1, 1, 1]
    expected = np.abs(windows.labels["hr_ecg"][subject == 0] - 70).mean()
    assert scores["error"][0] == pytest.approx(expected) and not scores["wrong_but_sure"].any()
    far = rate_scores(scored(cohort, rate=reading.rate + 20))
    assert (far["wrong_but_sure"] == 1).all()


def test_windows_without_truth_do_not_count(cohort):
    windows, subject, reading = cohort
    half = np.arange(len(subject)) % 2 == 0
    beats = np.where(half[:, None], windows.beats, np.nan)
    some = replace(windows, beats=beats, labels={"hr_ecg": rate_of_beats(beats)})
    one = scored((some, subject, replace(reading, rate=np.where(half, reading.rate, 500))))
    assert rate_scores(one)["error"].max() < 2
    assert all(np.allclose(x, 1) for x in match_scores(one).values())


def test_the_surest_are_the_share_of_all_windows_with_truth():
    error = np.array([1.0, np.nan, 2, 3, 4, 5])
    chosen = surest(np.array([0.1, 1.0, 0.9, 0.8, 0.7, 0.6]), error)
    assert chosen.tolist() == [False, False, True, True, True, True]
    assert surest(np.full(6, np.nan), error) is None
    assert subject_means(error, np.array([0, 0, 0, 1, 1, 2])).tolist() == [1.5, 3.5, 5]


def test_variability_and_correlations_against_plain_sums(cohort):
    windows, _, reading = cohort
    truth = true_values(windows)
    k = 7
    own = 1000 * np.diff(windows.beats[k][np.isfinite(windows.beats[k])].astype(float))
    assert truth["rmssd"][k] == pytest.approx(np.sqrt(np.mean(np.diff(own) ** 2)), rel=1e-4)
    assert truth["sdnn"][k] == pytest.approx(own.std(ddof=1), rel=1e-4)
    one = scored(cohort)
    found = value_scores(truth["rmssd"], one, "rmssd")
    mine = variability(reading.time, reading.window, len(windows))["rmssd"]
    assert found["spearman"] == pytest.approx(stats.spearmanr(truth["rmssd"], mine).statistic)
    assert found["pearson"] == pytest.approx(np.corrcoef(truth["rmssd"], mine)[0, 1])
    assert 0 < found["pearson_within"] <= 1


def test_irregularity_against_a_plain_sum():
    rng = np.random.default_rng(0)
    times = [np.cumsum(rng.uniform(0.4, 1.2, n)) for n in (9, 3, 2, 1)]
    window = np.repeat([0, 1, 2, 4], [len(t) for t in times])
    found = irregularity(np.concatenate(times), window, 5)
    for number, time in ((0, times[0]), (1, times[1])):
        interval = np.diff(time)
        assert found[number] == pytest.approx(np.abs(np.diff(interval)).mean() / interval.mean())
    assert np.isnan(found[2:]).all()  # one interval, no window, one beat


def test_intervals_of_a_doubtful_beat_stay_out_of_variability():
    time = np.cumsum(np.random.default_rng(3).normal(0.8, 0.05, 12))
    confidence = np.where(np.arange(12) == 5, 0.1, 0.9)
    interval = 1000 * np.diff(time)
    sure = np.delete(interval, [4, 5])  # before and after the doubtful beat
    changes = np.diff(interval)[[0, 1, 2, 6, 7, 8, 9]]  # none of them touches it
    wild = np.where(np.arange(12) == 5, time - 0.3, time)  # a beat in the wrong place
    for beats in (time, wild):
        found = variability(beats, np.zeros(12, int), 2, confidence)
        assert found["rmssd"][0] == pytest.approx(np.sqrt(np.mean(changes**2)))
        assert found["sdnn"][0] == pytest.approx(sure.std(ddof=1))
        assert found["pnn50"][0] == pytest.approx(100 * np.mean(np.abs(changes) > 50))
        assert all(np.isnan(x[1]) for x in found.values())
    few = variability(time, np.zeros(12, int), 1, np.where(np.arange(12) % 4 == 3, 0.1, 0.9))
    assert np.isnan(few["rmssd"][0]) and np.isfinite(few["sdnn"][0])  # 6 sure intervals, 3 changes


def test_premature_beats_are_early_and_have_a_pause():
    time = np.array([0, 1, 2, 2.6, 4, 5, 6, 7, 8.0])
    late = np.array([0, 1, 2, 2.6, 3.2, 4.1, 5, 6, 7.0])  # a run without a pause at its first beat
    share = premature_share(np.concatenate([time, late]), np.repeat([0, 1], 9), 3)
    assert share[:2] == pytest.approx([100 / 8, 100 / 8]) and np.isnan(share[2])
    truth, score = np.array([0, 0, 5, 10, np.nan]), np.array([0.1, 0.4, 0.35, 0.8, 9])
    assert detection_auroc(truth, score) == roc_auc_score([0, 0, 1, 1], score[:4])
    assert np.isnan(detection_auroc(truth[:2], score[:2]))


def test_coverage_is_the_share_inside():
    truth, subject = np.array([1.0, 2, 3, np.nan]), np.array([0, 0, 1, 1])
    inside, width = interval_coverage(truth, truth - [1, -1, 1, 0], truth + [1, 2, 1, 0], subject)
    assert inside.tolist() == [0.5, 1] and width == 2


def test_the_interval_of_a_mean_covers_and_follows_skew():
    rng = np.random.default_rng(5)
    normal = [mean_interval(rng.normal(2, 1, 12), n_resamples=300) for _ in range(300)]
    assert 0.9 < np.mean([low <= 2 <= high for low, high in normal]) < 0.99
    x = rng.lognormal(0, 0.8, 34)
    low, high = mean_interval(x)
    assert high - x.mean() > x.mean() - low > 0  # longer on the side of the tail
    assert mean_interval([1.0, 2.0]) is None and mean_interval([1.0] * 5) is None
    assert mean_with_interval(np.array([1.0, np.nan])) == "1.00"


def test_sign_flips_are_exact_and_say_what_they_cannot_tell():
    first, second = np.arange(8.0), np.arange(8.0) + 1
    assert sign_flip_test(first, second) == 2 / 2**8 == least_p(8)
    many = np.random.default_rng(3).normal(0.4, 1, 34)
    reference = stats.permutation_test((many,), np.mean, permutation_type="samples",
                                       n_resamples=20_000, random_state=1).pvalue  # fmt: skip
    assert sign_flip_test(many, np.zeros(34)) == pytest.approx(reference, abs=0.01)
    assert power_note(34, 6) == "" and "no difference can reach" in power_note(8, 10)


def test_a_method_without_beats_has_no_matches(cohort):
    nothing = np.zeros(0)
    one = scored(cohort, window=nothing.astype(int), time=nothing, confidence=nothing)
    assert one.matched is None
    windows, subject, reading = cohort
    empty = replace(reading, window=nothing.astype(int), time=nothing, confidence=nothing)
    assert not np.isfinite(match_beats(windows, subject, empty).found).any()
