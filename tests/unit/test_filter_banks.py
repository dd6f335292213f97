from collections.abc import Callable

import kaldi_native_fbank
import numpy as np
import pytest

from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.speakers.filter_banks import BANKS, FilterBanks, filter_banks

SpeechLike = Callable[[int, int], Waveform]


def kaldi(samples: Waveform) -> FilterBanks:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = SAMPLE_RATE_HZ
    options.mel_opts.num_bins = BANKS
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(SAMPLE_RATE_HZ, samples.tolist())
    computer.input_finished()
    frames = [computer.get_frame(index) for index in range(computer.num_frames_ready)]
    return np.array(frames, np.float32).reshape(-1, BANKS)


@pytest.mark.parametrize("samples", [399, 400, 559, 560, 16_000, 96_000])
@pytest.mark.parametrize("gain", [1.0, 1e-3, 1e-6])
def test_filter_banks_equal_kaldis(samples: int, gain: float, speech_like: SpeechLike) -> None:
    waveform = speech_like(samples, samples) * np.float32(gain)

    computed = filter_banks(waveform)

    assert computed.dtype == np.float32
    np.testing.assert_allclose(computed, kaldi(waveform), rtol=0, atol=1e-3)


def test_digital_silence_equals_kaldis() -> None:
    silence = np.zeros(SAMPLE_RATE_HZ, np.float32)

    np.testing.assert_array_equal(filter_banks(silence), kaldi(silence))


def test_the_input_is_not_changed(speech_like: SpeechLike) -> None:
    waveform = speech_like(1000, 0)
    before = waveform.copy()

    filter_banks(waveform)

    np.testing.assert_array_equal(waveform, before)
