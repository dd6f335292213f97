"""Copies of utterances: each change does what it claims, and the same seed gives the same copy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly, welch

from core.audio.waveform import Waveform
from core.errors import TrainingRefused
from core.settings import MediaLimits
from core.training import augmentation
from core.training.augmentation import (
    A_LAW,
    GSM,
    KINDS,
    MU_LAW,
    OPUS,
    Augmentation,
    Codec,
    Noise,
    RandomCopy,
    add_noise,
    coloured_noise,
    conditions,
    parse_kinds,
    read_noise,
    reverberate,
    through_telephone,
)


@pytest.fixture
def speech(speech_like: Callable[[int, int], Waveform]) -> Waveform:
    return speech_like(32_001, 1)


@pytest.fixture
def white(speech: Waveform) -> Waveform:
    """Noise with all frequencies at the same level."""
    return (0.1 * np.random.default_rng(0).standard_normal(speech.size)).astype(np.float32)


def snr_db(signal: Waveform, changed: Waveform) -> float:
    return float(10 * np.log10(np.mean(signal**2) / np.mean((changed - signal) ** 2)))


def level_db(waveform: Waveform, low_hz: float, high_hz: float) -> float:
    frequencies_hz, power = welch(waveform, 16_000, nperseg=1024)
    return float(10 * np.log10(power[(frequencies_hz >= low_hz) & (frequencies_hz < high_hz)].mean()))


@pytest.mark.parametrize("codec", [MU_LAW, A_LAW, GSM, OPUS], ids=lambda codec: codec.subtype)
def test_a_telephone_cuts_the_band_and_keeps_the_time(codec: Codec, speech: Waveform, white: Waveform) -> None:
    through = through_telephone(white, codec, is_filtered=False)
    filtered = through_telephone(white, codec, is_filtered=True)

    assert through.shape == filtered.shape == white.shape
    assert through.dtype == np.float32
    in_band_db = level_db(filtered, 600, 3_000)
    assert in_band_db == pytest.approx(level_db(white, 600, 3_000), abs=5 if codec is OPUS else 2)
    assert level_db(through, 4_500, 8_000) < in_band_db - 30
    assert level_db(filtered, 0, 120) < in_band_db - (20 if codec in {MU_LAW, A_LAW} else 6)
    spoken = through_telephone(speech, codec, is_filtered=False)
    lags = np.correlate(spoken[8_000:24_000], speech[8_000:24_000], "full")
    assert abs(int(lags.argmax()) - 15_999) <= 2


@pytest.mark.parametrize(("codec", "least_db", "most_db"), [(MU_LAW, 30, 45), (A_LAW, 30, 45), (GSM, 0, 20)])
def test_a_codec_loses_what_it_loses_on_a_telephone(codec: Codec, least_db: float, most_db: float) -> None:
    narrow = resample_poly(0.1 * np.random.default_rng(0).standard_normal(8_000), 1, 2)  # up to 2 kHz
    waveform = resample_poly(narrow, 4, 1).astype(np.float32)
    middle = slice(2_000, 14_000)

    through = through_telephone(waveform, codec, is_filtered=False)

    assert least_db < snr_db(waveform[middle], through[middle]) < most_db


def test_a_level_above_full_scale_is_clipped_and_does_not_wrap() -> None:
    tone = (3 * np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000)).astype(np.float32)

    for codec in (MU_LAW, A_LAW, GSM, OPUS):
        through = through_telephone(tone, codec, is_filtered=False)
        assert np.corrcoef(through, tone)[0, 1] > 0.8, codec


@pytest.mark.parametrize("samples", [1, 2, 399, 4_000])
def test_a_short_utterance_keeps_its_length(samples: int) -> None:
    waveform = np.full(samples, 0.1, np.float32)

    for seed in range(30):
        changed = Augmentation(KINDS).apply(waveform, np.random.default_rng(seed))
        assert changed.shape == (samples,)
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()


@pytest.mark.parametrize("wanted_db", [0.0, 10.0, 20.0])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_has_the_wanted_ratio(speech: Waveform, wanted_db: float, exponent: float) -> None:
    noise = coloured_noise(speech.size, np.random.default_rng(1), exponent)

    assert snr_db(speech, add_noise(speech, noise, wanted_db)) == pytest.approx(wanted_db, abs=0.05)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_falls_with_frequency_as_its_colour_says(exponent: float) -> None:
    noise = coloured_noise(160_000, np.random.default_rng(1), exponent)

    octaves = [(250, 500), (500, 1_000), (1_000, 2_000), (2_000, 4_000), (4_000, 8_000)]
    slope_db = np.diff([level_db(noise, *octave) for octave in octaves])

    assert slope_db == pytest.approx(np.full(4, -3.01 * exponent), abs=0.7)


def test_random_noise_stays_between_0_and_20_db(speech: Waveform) -> None:
    copies = [Augmentation(("noise",)).apply(speech, np.random.default_rng(seed)) for seed in range(200)]
    ratios = np.array([snr_db(speech, copy) for copy in copies if not np.array_equal(copy, speech)])

    assert 75 <= ratios.size <= 125  # half of 200
    assert -0.05 <= ratios.min() < 3
    assert 17 < ratios.max() <= 20.05


def test_a_room_decays_in_its_time_and_keeps_the_level() -> None:
    impulse = np.zeros(16_000, np.float32)
    impulse[100] = 0.5

    room = reverberate(impulse, np.random.default_rng(0), decay_s=0.4, direct_db=6.0)

    assert np.sum(room**2) == pytest.approx(np.sum(impulse**2), rel=1e-3)
    direct, tail = room[100] ** 2, room[101:]
    assert 10 * np.log10(direct / np.sum(tail**2)) == pytest.approx(6.0, abs=0.2)
    remaining_db = 10 * np.log10(np.cumsum(tail[::-1].astype(float) ** 2)[::-1] + 1e-30)
    fallen = np.flatnonzero(remaining_db < remaining_db[0] - 30)[0] / 16_000
    assert fallen == pytest.approx(0.2, abs=0.03)  # half of 60 dB
    assert not room[:100].round(6).any()


def test_gain_changes_only_the_level_unless_it_clips(speech: Waveform) -> None:
    quiet = 0.05 * speech / np.abs(speech).max()
    copies = [Augmentation(("gain",)).apply(quiet, np.random.default_rng(seed)) for seed in range(50)]
    gains_db = [float(20 * np.log10(np.abs(copy).max() / 0.05)) for copy in copies]

    assert min(gains_db) < -10
    assert -20.01 <= min(gains_db) <= max(gains_db) <= 10.01
    for copy, gain_db in zip(copies, gains_db, strict=True):
        np.testing.assert_allclose(copy, quiet * 10 ** (gain_db / 20), rtol=1e-3, atol=1e-6)
    loud = [Augmentation(("gain",)).apply(speech / np.abs(speech).max(), np.random.default_rng(n)) for n in range(50)]
    assert max(np.abs(copy).max() for copy in loud) <= 1


def test_each_kind_is_applied_and_no_other(speech: Waveform) -> None:
    for kind in KINDS:
        changed = sum(
            not np.array_equal(Augmentation((kind,)).apply(speech, np.random.default_rng(seed)), speech)
            for seed in range(40)
        )
        assert 2 <= changed <= 35, kind
    np.testing.assert_array_equal(Augmentation().apply(speech, np.random.default_rng(0)), speech)


def test_the_same_seed_and_key_give_the_same_copy(speech: Waveform) -> None:
    def copy(seed: int, key: str) -> Waveform:
        return RandomCopy(Augmentation(KINDS), seed)(speech, key)

    for number in range(10):
        np.testing.assert_array_equal(copy(1, f"clip {number}"), copy(1, f"clip {number}"))
    assert len({copy(seed, f"clip {number}").tobytes() for seed in (1, 2) for number in range(10)}) > 14


def test_the_conditions_of_the_test_are_what_their_names_say(speech: Waveform) -> None:
    copies = conditions(Noise())

    assert list(copies) == ["clean", "telephone", "noise, 10 dB"]
    np.testing.assert_array_equal(copies["clean"](speech, "a"), speech)
    np.testing.assert_array_equal(copies["telephone"](speech, "a"), through_telephone(speech, MU_LAW, is_filtered=True))
    noisy = copies["noise, 10 dB"]
    assert snr_db(speech, noisy(speech, "a")) == pytest.approx(10, abs=0.05)
    np.testing.assert_array_equal(noisy(speech, "a"), noisy(speech, "a"))
    assert not np.array_equal(noisy(speech, "a"), noisy(speech, "b"))
    assert len({copy.identity for copy in copies.values()}) == 3


def test_recordings_of_noise_replace_generated_noise(tmp_path: Path, speech: Waveform) -> None:
    (tmp_path / "inner").mkdir()
    hum = (0.2 * np.sin(2 * np.pi * 1_000 * np.arange(8_000) / 16_000)).astype(np.float32)
    soundfile.write(tmp_path / "inner" / "hum.wav", np.stack([hum, hum], axis=1), 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "silence.wav", np.zeros(8_000), 16_000)
    (tmp_path / "LICENSE").write_text("free")
    notes: list[str] = []

    noise = read_noise(tmp_path, MediaLimits(), notes.append)
    added = conditions(noise)["noise, 10 dB"](speech, "a") - speech

    assert notes == [f"Left out 2 of the files in {tmp_path}: they cannot be read, or are silent."]
    assert level_db(added, 900, 1_100) > level_db(added, 2_000, 8_000) + 30
    assert snr_db(speech, speech + added) == pytest.approx(10, abs=0.05)
    assert noise.key != Noise().key
    assert Augmentation(("noise",), noise).identity != Augmentation(("noise",)).identity


def test_of_many_recordings_of_noise_some_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "_MAX_NOISE_FILES", 2)
    monkeypatch.setattr(augmentation, "_MAX_NOISE_S", 1.0)
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", np.full(48_000, 0.1 * (number + 1)), 16_000)
    notes: list[str] = []

    noise = read_noise(tmp_path, MediaLimits(), notes.append)

    assert [round(float(recording[0]), 1) for recording in noise.recordings] == [0.1, 0.3]
    assert all(16_000 <= recording.size <= 32_000 for recording in noise.recordings)
    assert notes == [f"{tmp_path} has 4 files, of which one in 2 is used."]


def test_a_folder_without_noise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingRefused, match=r"has no recording that can be read"):
        read_noise(tmp_path, MediaLimits(), lambda _: None)
    with pytest.raises(TrainingRefused, match=r"is not a folder"):
        read_noise(tmp_path / "missing", MediaLimits(), lambda _: None)


def test_kinds_are_parsed_in_one_order() -> None:
    assert parse_kinds("gain, Telephone") == ("telephone", "gain")
    assert parse_kinds("none") == ()
    for wrong in ("", "echo", "none,gain"):
        with pytest.raises(TrainingRefused, match=r"--augment needs some of telephone, noise, reverb, gain, or none"):
            parse_kinds(wrong)
