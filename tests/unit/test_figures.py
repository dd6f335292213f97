"""Figures with their bootstrap intervals, checked against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from core.evaluation.figures import (
    Indices,
    count,
    estimate,
    estimate_difference,
    macro_f1,
    recalls,
    unweighted_accuracy,
)


def drawn(clips: int = 300, speakers: int = 12, accuracy: float = 0.6, seed: int = 0) -> tuple[Indices, ...]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, clips)
    predicted = np.where(random.random(clips) < accuracy, truth, random.integers(0, 4, clips))
    return truth, predicted, random.integers(0, speakers, clips)


def test_figures_are_those_of_scikit_learn() -> None:
    truth, predicted, groups = drawn()
    counts = count(truth, predicted, groups, 4).sum(axis=0)

    assert unweighted_accuracy(counts) == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert macro_f1(counts) == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_labels_without_clips_do_not_count() -> None:
    counts = count(np.array([0, 0, 1]), np.array([0, 2, 1]), np.zeros(3, np.int64), 3, 4)[0]

    assert recalls(counts)[:2].tolist() == [0.5, 1.0]
    assert unweighted_accuracy(counts) == pytest.approx(0.75)
    assert macro_f1(counts) == pytest.approx((2 / 3 + 1) / 2)


def test_a_prediction_beyond_the_labels_is_wrong() -> None:
    counts = count(np.array([0, 1]), np.array([0, 2]), np.zeros(2, np.int64), 2, 3)[0]

    assert unweighted_accuracy(counts) == 0.5


def test_the_interval_covers_the_true_accuracy_nineteen_times_in_twenty() -> None:
    covered = 0
    for seed in range(60):
        truth, predicted, groups = drawn(clips=400, speakers=40, accuracy=0.6, seed=seed)
        (found,) = estimate(count(truth, predicted, groups, 4), unweighted_accuracy)
        covered += found.low <= 0.7 <= found.high  # a quarter of the others is right by chance

    assert 0.85 * 60 <= covered <= 60


def test_the_interval_is_wider_when_clips_of_a_speaker_are_alike() -> None:
    random = np.random.default_rng(0)
    speakers = np.repeat(np.arange(20), 20)
    truth = random.integers(0, 4, speakers.size)
    predicted = np.where((random.random(20) < 0.6)[speakers], truth, (truth + 1) % 4)

    def width(groups: Indices) -> float:
        (found,) = estimate(count(truth, predicted, groups, 4), unweighted_accuracy)
        return found.high - found.low

    assert width(speakers) > 2 * width(np.arange(speakers.size))


def test_a_paired_difference_is_clear_where_two_intervals_overlap() -> None:
    truth, predicted, groups = drawn(clips=400, speakers=20, accuracy=0.5)
    better = predicted.copy()
    wrong = np.flatnonzero(predicted != truth)[::6]
    better[wrong] = truth[wrong]
    first, second = count(truth, predicted, groups, 4), count(truth, better, groups, 4)

    (difference,) = estimate_difference(second, first, unweighted_accuracy)
    (low,), (high,) = estimate(first, unweighted_accuracy), estimate(second, unweighted_accuracy)

    assert low.high > high.low
    assert difference.is_clear
    assert difference.value == pytest.approx(high.value - low.value)


def test_equal_predictions_do_not_differ() -> None:
    truth, predicted, groups = drawn()
    counts = count(truth, predicted, groups, 4)

    (difference,) = estimate_difference(counts, counts, unweighted_accuracy)

    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
    assert not difference.is_clear
