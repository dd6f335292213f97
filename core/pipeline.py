"""A file in, a result out: decode, cut, classify, sum up. Knows nothing of S3."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from core.audio import utterances
from core.audio.channels import ChannelGroup
from core.audio.decode import Block, MediaInfo, decode, probe
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ
from core.deadline import Deadline, ProgressEstimate, plausible_duration_s
from core.errors import EmptyRecording, RecordingError
from core.model.classifier import EmotionClassifier
from core.results import (
    Audio,
    Channel,
    EmotionScores,
    Model,
    Processing,
    Result,
    Source,
    Utterance,
    mean_scores,
)
from core.settings import MediaLimits, SegmentationSettings


@dataclass
class _Progress:
    """What is known of a recording while it is worked on; what a failure can still tell."""

    info: MediaInfo | None = None
    decoded_samples: int = 0
    decode_s: float = 0.0
    inference_s: float = 0.0
    heard: dict[ChannelGroup, list[Utterance]] = field(default_factory=lambda: defaultdict(list))

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

    @property
    def processing(self) -> Processing:
        return Processing.finished_now(decode_s=self.decode_s, inference_s=self.inference_s)


class Pipeline:
    """Turns recordings into results, with one classifier and one set of limits."""

    def __init__(self, classifier: EmotionClassifier, limits: MediaLimits, segmentation: SegmentationSettings) -> None:
        self._classifier = classifier
        self._limits = limits
        self._segmentation = segmentation
        # Now, not with the first recording: in Lambda, the time before that has the whole processor to itself.
        self._vad = VoiceActivityDetector.load()

    @property
    def limits(self) -> MediaLimits:
        """What a recording may cost."""
        return self._limits

    @property
    def model(self) -> Model:
        """The model as results name it."""
        return self._classifier.identity

    def run(self, path: Path, source: Source, *, deadline: Deadline | None = None) -> Result:
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
            return Result.failed(source, self.model, error, audio=progress.audio, processing=progress.processing)
        return self._summed_up(source, progress)

    def _work(self, path: Path, progress: _Progress, deadline: Deadline) -> None:
        started = time.monotonic()
        progress.info = probe(path, self._limits, deadline)
        progress.decode_s = time.monotonic() - started
        estimate = ProgressEstimate(_duration_s(path, progress.info), deadline)
        blocks = _counted(decode(path, progress.info, self._limits, deadline), progress, estimate)
        for utterance in utterances.cut(blocks, self._segmentation, self._vad):
            if deadline.passed:
                estimate.check(utterance.start_s)
            started = time.monotonic()
            judgement = EmotionScores.of(self._classifier.classify(utterance.waveform))
            progress.inference_s += time.monotonic() - started
            # Without the waveform: three hours of speech are 700 MB.
            progress.heard[utterance.channels].append(
                Utterance(**dict(judgement), start_s=utterance.start_s, end_s=utterance.end_s)
            )
        if progress.decoded_samples == 0:
            raise EmptyRecording("The recording contains no samples.")

    def _summed_up(self, source: Source, progress: _Progress) -> Result:
        channels = tuple(_channel(group, parts) for group, parts in sorted(progress.heard.items()))
        overall = None
        if channels:
            overall = EmotionScores.of(mean_scores((u.scores, u.duration_s) for c in channels for u in c.utterances))
        return Result(
            status="classified" if overall else "no_speech",
            source=source,
            audio=progress.audio,
            model=self.model,
            emotion=overall.emotion if overall else None,
            score=overall.score if overall else None,
            scores=overall.scores if overall else None,
            speech_s=sum(channel.speech_s for channel in channels),
            channels=channels,
            processing=progress.processing,
        )


def _duration_s(path: Path, info: MediaInfo) -> float | None:
    return plausible_duration_s(info.duration_s, info.codec, path.stat().st_size, info.sample_rate_hz * info.channels)


def _counted(blocks: Iterable[Block], progress: _Progress, estimate: ProgressEstimate) -> Iterator[Block]:
    """Yield the same blocks, count their samples and the time that decoding takes, and check the deadline."""
    waiting_since = time.monotonic()
    for block in blocks:
        progress.decode_s += time.monotonic() - waiting_since
        progress.decoded_samples += block.shape[1]
        yield block
        # Whoever asks for the next block has done with this one.
        estimate.check(progress.decoded_samples / SAMPLE_RATE_HZ)
        waiting_since = time.monotonic()


def _channel(group: ChannelGroup, parts: list[Utterance]) -> Channel:
    judgement = EmotionScores.of(mean_scores((part.scores, part.duration_s) for part in parts))
    return Channel(
        **dict(judgement),
        channel=group[0],
        mixed=group if len(group) > 1 else None,
        speech_s=sum(part.duration_s for part in parts),
        utterances=tuple(parts),
    )
