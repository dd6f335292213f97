"""Calibration: the expected calibration error, checked by hand, and the temperature, checked on known logits."""

import re

import numpy as np
import pytest
import torch

from core.evaluation.calibration import Calibration, reliability_diagram_svg
from core.evaluation.figures import Indices, Values
from core.model.output import output_values
from core.results import Output
from core.training.temperature import fit_temperature, fold_temperature
from tests.support.networks import SMALL_NETWORKS, SmallNetwork


def drawn(clips: int = 4000, seed: int = 0) -> tuple[Values, Indices]:
    """Return calibrated logits with four labels, and the targets drawn from their softmax."""
    random = np.random.default_rng(seed)
    logits = random.normal(0.0, 1.5, (clips, 4))
    noise = random.gumbel(size=logits.shape)
    return logits, (logits + noise).argmax(axis=1)


def calibration_of(logits: Values, targets: Indices) -> Calibration:
    scores = np.stack([output_values(row, Output.SOFTMAX) for row in logits.astype(np.float32)])
    return Calibration.of(scores.max(axis=1), scores.argmax(axis=1) == targets)


def test_the_error_is_the_weighted_distance_of_the_bins() -> None:
    # Two bins: mean score 0.9 with half correct, and mean score 0.55 with all correct.
    found = Calibration.of([0.9, 0.9, 0.55, 0.55, 0.55, 0.55], [True, False, True, True, True, True])

    assert found.expected_error == pytest.approx((2 * 0.4 + 4 * 0.45) / 6)
    assert [(each.clips, each.accuracy) for each in found.bins] == [(4, 1.0), (2, 0.5)]
    assert "0.167 too low on average" in found.in_words


@pytest.mark.parametrize(("score", "low"), [(0.0, 0.0), (1 / 15, 0.0), (0.07, 1 / 15), (1.0, 14 / 15)])
def test_every_score_has_one_bin(score: float, low: float) -> None:
    (found,) = Calibration.of([score], [True]).bins

    assert found.low == pytest.approx(low)


def test_drawn_labels_are_calibrated_and_sharpened_logits_are_not() -> None:
    logits, targets = drawn()

    assert calibration_of(logits, targets).expected_error < 0.03
    assert calibration_of(3 * logits, targets).expected_error > 0.1


@pytest.mark.parametrize("clips", [60, 240, 4000])
def test_one_calibrated_model_in_twenty_exceeds_the_error_by_chance(clips: int) -> None:
    found = [calibration_of(*drawn(clips, seed)) for seed in range(200)]
    limit = float(np.median([each.chance_error for each in found]))

    exceeding = np.mean([each.expected_error > limit for each in found])
    assert 0.01 < exceeding < 0.12  # 0.05, and what 200 models leave to chance
    assert f"With {clips:,} clips, a calibrated model has up to " in found[0].in_words


def test_few_clips_raise_the_error_by_chance_and_certain_scores_lower_it() -> None:
    few, many = (calibration_of(*drawn(clips)).chance_error for clips in (60, 4000))

    assert few > 3 * many
    assert Calibration.of([1.0, 1.0], [True, True]).chance_error == 0.0


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_a_factor_on_unseen_clips(factor: float) -> None:
    logits, targets = drawn(seed=1)
    temperature = fit_temperature(factor * logits, targets)

    assert temperature == pytest.approx(factor, rel=0.06)
    unseen, truth = drawn(seed=2)
    assert calibration_of(factor * unseen / temperature, truth).expected_error < 0.03


@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_the_temperature_of_a_sigmoid_undoes_a_factor(factor: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0.0, 2.0, (4000, 1))
    is_first = random.random(4000) < 1 / (1 + np.exp(-logits[:, 0]))
    both = np.hstack([logits, -logits])  # one of two labels, each with a probability on its own

    assert fit_temperature(factor * both, np.where(is_first, 0, 1), Output.SIGMOID) == pytest.approx(factor, rel=0.06)


def test_perfect_predictions_have_a_finite_temperature() -> None:
    assert 0.0 < fit_temperature(np.eye(3) * 10, np.arange(3)) < 1.0


_HEADS = {(kind.architecture.head, kind.architecture.output): kind for kind in SMALL_NETWORKS}


@pytest.mark.parametrize("small", _HEADS.values(), ids=str)
def test_folding_divides_the_logits_of_every_head(small: SmallNetwork) -> None:
    network, samples = small.build(), torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    if small.architecture.output is Output.LINEAR:
        with pytest.raises(ValueError, match="no temperature"):
            fold_temperature(network, 2.5)
        return
    with torch.inference_mode():
        before = network(samples)
    fold_temperature(network, 2.5)

    with torch.inference_mode():
        torch.testing.assert_close(network(samples), before / 2.5)


def test_values_of_dimensions_have_no_temperature() -> None:
    with pytest.raises(ValueError, match="no temperature"):
        fit_temperature(np.eye(3), np.arange(3), Output.LINEAR)


def test_the_diagram_has_a_bar_for_each_bin_and_the_diagonal() -> None:
    svg = reliability_diagram_svg(Calibration.of([0.9, 0.9, 0.55], [True, False, True]))

    assert len(re.findall("<circle", svg)) == 2
    assert "2 clips, mean score 0.90, 50% correct" in svg
    assert "stroke-dasharray" in svg
