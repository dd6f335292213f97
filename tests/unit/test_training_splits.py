"""Splits by speaker, whatever the number of speakers and labels."""

import numpy as np
import pytest

from core.training.splits import Split, make_splits

LABELS = 3


def splits_of(clips: int, speakers: int, seed: int = 1) -> tuple[list[Split], list[str]]:
    targets = np.random.default_rng(0).integers(0, LABELS, clips)
    names = [f"speaker {index % speakers}" if speakers else "" for index in range(clips)]
    return make_splits(targets, names, seed), names


@pytest.mark.parametrize("speakers", [0, 2, 3, 4, 5, 6, 14, 40])
def test_each_clip_is_tested_once_and_the_sets_are_disjoint(speakers: int) -> None:
    splits, _ = splits_of(60, speakers)

    assert sorted(np.concatenate([split.testing for split in splits])) == list(range(60))
    for split in splits:
        sets = [set(split.training), set(split.validation), set(split.testing)]
        assert all(sets)
        assert sum(map(len, sets)) == len(set.union(*sets)) == 60


@pytest.mark.parametrize("speakers", [2, 3, 4, 5, 6, 14, 40])
def test_no_speaker_is_in_the_test_set_and_in_another(speakers: int) -> None:
    splits, names = splits_of(60, speakers)

    for split in splits:
        training, validation, testing = (
            {names[index] for index in indices} for indices in (split.training, split.validation, split.testing)
        )
        assert not testing & (training | validation)
        # With two speakers, the other one must choose and train.
        assert speakers == 2 or not training & validation


@pytest.mark.parametrize(("speakers", "folds"), [(0, 5), (2, 2), (5, 5), (6, 5), (14, 5)])
def test_fewer_than_six_speakers_are_left_out_one_at_a_time(speakers: int, folds: int) -> None:
    splits, names = splits_of(60, speakers)

    assert len(splits) == folds
    if 0 < speakers < 6:
        assert {len({names[index] for index in split.testing}) for split in splits} == {1}


def test_a_seed_gives_one_split() -> None:
    first, second, other = (splits_of(60, 14, seed)[0] for seed in (1, 1, 2))

    assert all(np.array_equal(one.testing, same.testing) for one, same in zip(first, second, strict=True))
    assert not all(np.array_equal(one.testing, differs.testing) for one, differs in zip(first, other, strict=True))


@pytest.mark.parametrize("targets", [[0, 0, 1, 1], [0, 0, 0, 1, 1], [0] * 10 + [1, 1]])
def test_few_clips_of_a_label_are_split_too(targets: list[int]) -> None:
    for speakers in (["a", "b"], ["", ""], ["a", "b", "c"]):
        names = [speakers[index % len(speakers)] for index in range(len(targets))]
        splits = make_splits(np.array(targets), names, 1)
        assert sorted(np.concatenate([split.testing for split in splits])) == list(range(len(targets)))
