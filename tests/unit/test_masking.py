"""SpecAugment: spans of features are masked in training, and nowhere else."""

from itertools import groupby

import pytest
import torch

from core.training.masking import _SPAN_FRAMES, masked_spans
from tests.support.networks import SMALL_NETWORKS, SmallNetwork

KINDS = {kind.architecture.encoder.value: kind for kind in SMALL_NETWORKS}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_training_masks_spans_and_classifying_does_not(kind: SmallNetwork) -> None:
    network, samples = kind.build(), torch.randn(8, 64_000)
    expected = network(samples)

    with masked_spans(network):
        assert torch.equal(network(samples), expected)
        network.base_model.feature_projection.train()
        first, second = network(samples), network(samples)
    afterwards = network(samples)

    assert not torch.equal(first, expected)
    assert not torch.equal(first, second)
    assert torch.equal(afterwards, expected)


def test_rows_have_their_own_spans_of_a_fifth_of_a_second() -> None:
    network = KINDS["hubert"].build()
    dropout = network.base_model.feature_projection.dropout.train()

    with masked_spans(network):
        features = dropout(torch.ones(200, 299, 3))

    is_masked = (features == 0).all(dim=2)
    assert torch.equal(is_masked, (features == 0).any(dim=2))
    assert 0.12 < is_masked.float().mean() < 0.15
    assert len({tuple(row.tolist()) for row in is_masked}) > 150
    spans = [len(list(run)) for row in is_masked[:, :-_SPAN_FRAMES].tolist() for masked, run in groupby(row) if masked]
    assert spans.count(_SPAN_FRAMES) > len(spans) / 2
    assert max(spans) > _SPAN_FRAMES  # two that overlap


@pytest.mark.parametrize("frames", [1, _SPAN_FRAMES - 1])
def test_a_clip_may_be_shorter_than_a_span(frames: int) -> None:
    network = KINDS["hubert"].build()

    with masked_spans(network):
        features = network.base_model.feature_projection.dropout.train()(torch.ones(500, frames, 3))

    assert features.shape == (500, frames, 3)
    assert 0 < (features == 0).float().mean() < 0.2
