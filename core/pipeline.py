"""A file in, a result out: decode, cut, classify, sum up. Knows nothing of S3."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from core import __version__
from core.audio import utterances
from core.audio.decode import Block, MediaInfo, decode, probe
from core.deadline import Deadline
from core.errors import DeadlineExceeded, EmptyRecording, RecordingError
from core.model.classifier import EmotionClassifier, Scores
from core.results import (
    Audio,
    Channel,
    Error,
    Judgement,
    Model,
    Processing,
    Result,
    Source,
    Utterance,
    mean_scores,
    now,
)
from core.settings import MediaLimits
from core.waveform import SAMPLE_RATE_HZ


@dataclass
class _Progress:
    """What is known of a recording while it is worked on; what a failure can still tell."""

    info: MediaInfo | None = None
    decoded_samples: int = 0
    decode_s: float = 0.0
    inference_s: float = 0.0
    heard: list[tuple[utterances.Utterance, Scores]] = field(default_factory=list)

    @property
    def audio(self) -> Audio | None:
        if self.info is None:
            return None
        return Audio(
            container=self.info.container,
            codec=self.info.codec,
            sample_rate_hz=self.info.sample_rate_hz,
            channels=self.info.channels,
            duration_s=self.decoded_samples / SAMPLE_RATE_HZ,
        )


class Pipeline:
    """Turns recordings into results, with one classifier and one set of limits."""

    def __init__(self, classifier: EmotionClassifier, limits: MediaLimits) -> None:
        self._classifier = classifier
        self._limits = limits
        identity = classifier.identity
        self._model = Model(
            id=identity.id,
            revision=identity.revision,
            precision=identity.precision,
            fingerprint=identity.fingerprint,
            labels=identity.labels,
            demo=True if identity.demo else None,
        )

    @property
    def limits(self) -> MediaLimits:
        """What a recording may cost."""
        return self._limits

    @property
    def model(self) -> Model:
        """What the results say of the model."""
        return self._model

    def run(
        self, path: Path, source: Source, *, deadline: Deadline | None = None, request_id: str | None = None
    ) -> Result:
        """Work on one recording.

        Parameters
        ----------
        path
            Where its bytes are.
        source
            What the result says of where it came from.
        deadline
            When the result must be there.

        Returns
        -------
        A result whatever the recording is; a `failed` one if the recording is at fault.

        Raises
        ------
        TransientError
            If the surroundings are at fault, so that trying again may help.
        """
        progress = _Progress()
        try:
            self._work(path, progress, deadline or Deadline())
        except RecordingError as error:
            return self.failed(source, error, request_id=request_id, progress=progress)
        return self._summed_up(source, progress, request_id)

    def failed(
        self,
        source: Source,
        error: RecordingError,
        *,
        request_id: str | None = None,
        progress: _Progress | None = None,
    ) -> Result:
        """The result of a recording that is at fault."""
        progress = progress or _Progress()
        return Result(
            status="failed",
            source=source,
            audio=progress.audio,
            model=self._model,
            error=Error(code=error.code, message=str(error)),
            processing=_processing(progress, request_id),
        )

    def _work(self, path: Path, progress: _Progress, deadline: Deadline) -> None:
        started = time.monotonic()
        progress.info = probe(path, self._limits, deadline)
        progress.decode_s = time.monotonic() - started
        blocks = decode(path, progress.info, self._limits, deadline)
        for utterance in utterances.cut(_counted(blocks, progress)):
            if deadline.passed:
                raise DeadlineExceeded(_too_slow(utterance.start_s))
            started = time.monotonic()
            scores = self._classifier.classify(utterance.waveform)
            progress.inference_s += time.monotonic() - started
            progress.heard.append((utterance, scores))
        if progress.decoded_samples == 0:
            raise EmptyRecording("The recording contains no samples.")

    def _summed_up(self, source: Source, progress: _Progress, request_id: str | None) -> Result:
        channels = _channels(progress.heard)
        overall = None
        if channels:
            overall = Judgement.of(mean_scores((u.scores, u.duration_s) for c in channels for u in c.utterances))
        return Result(
            status="classified" if overall else "no_speech",
            source=source,
            audio=progress.audio,
            model=self._model,
            emotion=overall.emotion if overall else None,
            score=overall.score if overall else None,
            scores=overall.scores if overall else None,
            speech_s=sum(channel.speech_s for channel in channels),
            channels=channels,
            processing=_processing(progress, request_id),
        )


def _counted(blocks: Iterable[Block], progress: _Progress) -> Iterator[Block]:
    """The same blocks; notes how many samples there were and how long decoding kept us waiting."""
    waiting_since = time.monotonic()
    for block in blocks:
        progress.decode_s += time.monotonic() - waiting_since
        progress.decoded_samples += block.shape[1]
        yield block
        waiting_since = time.monotonic()


def _channels(heard: Iterable[tuple[utterances.Utterance, Scores]]) -> tuple[Channel, ...]:
    by_channel: dict[int, list[Utterance]] = defaultdict(list)
    for utterance, scores in heard:
        judgement = Judgement.of(scores)
        by_channel[utterance.channel].append(
            Utterance(**dict(judgement), start_s=utterance.start_s, end_s=utterance.end_s)
        )
    return tuple(_channel(number, parts) for number, parts in sorted(by_channel.items()))


def _channel(number: int, parts: list[Utterance]) -> Channel:
    judgement = Judgement.of(mean_scores((part.scores, part.duration_s) for part in parts))
    speech_s = sum(part.duration_s for part in parts)
    return Channel(**dict(judgement), channel=number, speech_s=speech_s, utterances=tuple(parts))


def _processing(progress: _Progress, request_id: str | None) -> Processing:
    return Processing(
        finished_at=now(),
        decode_ms=round(progress.decode_s * 1000),
        inference_ms=round(progress.inference_s * 1000),
        request_id=request_id,
        version=__version__,
    )


def _too_slow(classified_s: float) -> str:
    return (
        f"The time allowed was enough for the first {classified_s:.0f} s of the recording only: "
        "split it, or give the function more memory or a longer time-out."
    )
