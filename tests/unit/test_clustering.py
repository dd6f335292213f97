import time
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.speakers.clustering import Floats, Mode, Voices, split

FEATURES = 192
Labels = npt.NDArray[np.int64]

modes = pytest.mark.parametrize("mode", ["2", "auto"])


def unit(vectors: npt.NDArray[np.float64]) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def voices_of(labels: Labels, *, seed: int = 0, cosine: float = 0.0, spread: float = 0.08) -> Floats:
    """Return embeddings of voices whose means have a cosine to each other."""
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.standard_normal((FEATURES, 2)))[0].T
    means = np.stack([basis[0], cosine * basis[0] + np.sqrt(1 - cosine**2) * basis[1]])
    return unit(means[labels] + spread * random.standard_normal((labels.size, FEATURES)))


def alternating(count: int) -> Labels:
    return np.arange(count) // 2 % 2


def durations(count: int, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(0.5, 6.0, count)


def labels_of(voices: Voices) -> list[int]:
    assert voices.labels is not None
    return list(voices.labels.tolist())


@modes
@pytest.mark.parametrize("share", [0.5, 0.2, 0.1])
def test_two_clear_voices_are_separated_whatever_their_shares(mode: Mode, share: float) -> None:
    truth = (np.random.default_rng(3).permutation(40) < 40 * share).astype(np.int64)

    found = split(voices_of(truth), durations(40), mode)

    assert labels_of(found) == list(truth ^ truth[0])
    assert found.similarity == pytest.approx(0.0, abs=0.15)


@modes
def test_voices_are_numbered_in_order_of_appearance(mode: Mode) -> None:
    truth = np.array([1, 1, 0, 1, 0, 0, 1, 0])

    assert labels_of(split(voices_of(truth), durations(8), mode)) == [0, 0, 1, 0, 1, 1, 0, 1]


@pytest.mark.parametrize("spread", [0.03, 0.06, 0.1])
def test_auto_leaves_one_voice_alone_and_two_splits_it(spread: float) -> None:
    voice = voices_of(np.zeros(30, np.int64), spread=spread)

    assert split(voice, durations(30), "auto").labels is None
    assert set(labels_of(split(voice, durations(30), "2"))) == {0, 1}


@pytest.mark.parametrize(("cosine", "is_split"), [(0.3, True), (0.7, False)])
def test_auto_splits_voices_that_are_far_enough_apart(cosine: float, is_split: bool) -> None:
    found = split(voices_of(alternating(30), cosine=cosine, spread=0.03), durations(30), "auto")

    assert (found.labels is not None) is is_split
    assert found.similarity == pytest.approx(cosine, abs=0.05)


def test_auto_refuses_voices_as_far_apart_as_their_own_utterances() -> None:
    """With very loose voices, a small cosine between the means is no evidence."""
    loose = split(voices_of(alternating(40), cosine=0.45, spread=0.13), durations(40), "auto")
    tight = split(voices_of(alternating(40), cosine=0.45, spread=0.03), durations(40), "auto")

    assert loose.labels is None
    assert loose.similarity is not None
    assert loose.similarity < 0.5
    assert tight.labels is not None


@modes
def test_one_odd_utterance_is_no_voice(mode: Mode) -> None:
    truth = alternating(20)
    embeddings = voices_of(truth, cosine=0.3)
    embeddings[7] = unit(np.random.default_rng(9).standard_normal(FEATURES))

    found = labels_of(split(embeddings, durations(20), mode))

    assert [label for index, label in enumerate(found) if index != 7] == list(np.delete(truth, 7))


def test_a_voice_needs_two_seconds() -> None:
    truth = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    short, long = np.full(8, 0.9), np.full(8, 1.1)

    assert split(voices_of(truth), short, "auto").labels is None
    assert labels_of(split(voices_of(truth), long, "auto")) == list(truth)


@modes
@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 40), seed=st.integers(0, 1000), cosine=st.floats(-0.5, 0.95))
def test_the_order_of_the_utterances_does_not_matter(mode: Mode, count: int, seed: int, cosine: float) -> None:
    embeddings = voices_of(alternating(count), seed=seed, cosine=cosine)
    times = durations(count, seed)
    order = np.random.default_rng(seed).permutation(count)

    original, permuted = split(embeddings, times, mode), split(embeddings[order], times[order], mode)

    assert original.similarity == permuted.similarity
    assert (original.labels is None) == (permuted.labels is None)
    if original.labels is not None and permuted.labels is not None:
        expected = original.labels[order]
        np.testing.assert_array_equal(permuted.labels, expected ^ expected[0])


@modes
def test_without_utterances_or_with_one_there_is_one_voice(mode: Mode) -> None:
    for count in (0, 1):
        assert split(voices_of(alternating(count)), durations(count), mode) == Voices(None, None)


def test_two_utterances_are_two_voices_only_on_request() -> None:
    pair = voices_of(np.array([0, 1]))

    assert labels_of(split(pair, [2.0, 2.0], "2")) == [0, 1]
    assert split(pair, [2.0, 2.0], "auto") == Voices(None, None)


@modes
@pytest.mark.parametrize("count", [2, 3, 30, 300])
@pytest.mark.parametrize("value", [0.0, FEATURES**-0.5])
def test_identical_embeddings_are_one_voice(mode: Mode, count: int, value: float) -> None:
    same = np.full((count, FEATURES), value, np.float32)

    assert split(same, np.zeros(count), mode).labels is None


@modes
def test_utterances_beyond_the_longest_follow_the_nearer_voice(mode: Mode) -> None:
    truth = np.random.default_rng(5).integers(0, 2, 3000)

    found = split(voices_of(truth), durations(3000), mode)

    assert labels_of(found) == list(truth ^ truth[0])


def test_three_hours_take_under_a_second_of_processor_time_and_few_megabytes() -> None:
    embeddings, times = voices_of(np.random.default_rng(5).integers(0, 2, 5000)), durations(5000)

    def peak_bytes(count: int) -> int:
        tracemalloc.start()
        split(embeddings[:count], times[:count], "auto")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    started_s = time.thread_time()
    split(embeddings, times, "auto")

    assert time.thread_time() - started_s < 1.0
    assert peak_bytes(5000) - peak_bytes(300) < 2_000_000
