"""Speaker embeddings: CAM++ in ONNX Runtime, from the file that `make speakers` writes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.audio.waveform import Waveform
from core.errors import SpeakersUnavailable
from core.onnx_session import onnx_session
from core.speakers.filter_banks import FRAME_SAMPLES, filter_banks

FEATURES = 192

Embedding = npt.NDArray[np.float32]
"""Unit vector, shape ``(FEATURES,)``. Embeddings are biometric data: never store or log them."""


class SpeakerEmbedder:
    """The speaker network. One embedder serves any number of channels and threads.

    Parameters
    ----------
    path
        `speakers.onnx`.
    threads
        Number of inference threads.

    Raises
    ------
    SpeakersUnavailable
        If the file is missing or damaged.
    """

    def __init__(self, path: Path, threads: int) -> None:
        if not path.is_file():
            raise SpeakersUnavailable(f"There is no speaker network {path}. Run make speakers.")
        try:
            self._session = onnx_session(path, threads)
        except Exception as error:
            raise SpeakersUnavailable(f"The speaker network {path} is damaged. Run make speakers again.") from error

    def embed(self, samples: Waveform) -> Embedding:
        """Return the embedding of an utterance.

        Parameters
        ----------
        samples
            Mono samples at 16 kHz, shape ``(n,)``, float32 in [-1, 1]: the utterance without the audio around it.
            Fewer than 400 samples are padded with zeros.
        """
        padded = np.pad(samples, (0, max(0, FRAME_SAMPLES - samples.size)))
        banks = filter_banks(padded)
        (output,) = self._session.run(None, {"filter_banks": (banks - banks.mean(axis=0))[None]})
        embedding: Embedding = output[0]
        return embedding / np.float32(max(float(np.linalg.norm(embedding)), 1e-12))
