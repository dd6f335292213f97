"""Turns a file into a result: decode, cut into speech segments, classify, average. Independent of S3."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from core.audio.channels import ChannelGroup
from core.audio.decode import claimed_s, decode
from core.audio.probe import MediaInfo, probe
from core.audio.state import State
from core.audio.utterances import RecordingCutter, SpeechSegment
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ, Block
from core.deadline import Deadline, ProgressEstimate
from core.errors import DeadlineExceeded, EmptyRecording, RecordingError
from core.model.classifier import EmotionClassifier
from core.results import (
    Audio,
    Channel,
    EmotionScores,
    MeanScores,
    Model,
    Processing,
    Result,
    Source,
    Utterance,
)
from core.resumption import ProgressStore, Resumption
from core.settings import MediaLimits, SegmentationSettings


@dataclass
class _Progress:
    """The facts about a recording so far, which a `failed` result reports too."""

    info: MediaInfo | None = None
    decoded_samples: int = 0
    decode_s: float = 0.0
    inference_s: float = 0.0
    utterances: dict[ChannelGroup, list[Utterance]] = field(default_factory=lambda: defaultdict(list))

    def state(self) -> State:
        """Return what the next invocation needs."""
        utterances = [
            {"group": group, "parts": [part.model_dump(exclude_none=True) for part in parts]}
            for group, parts in self.utterances.items()
        ]
        return {"utterances": utterances, "decode_s": self.decode_s, "inference_s": self.inference_s}

    def restore(self, state: State) -> None:
        """Continue from the progress of another invocation."""
        self.decode_s += state["decode_s"]
        self.inference_s += state["inference_s"]
        for stored in state["utterances"]:
            self.utterances[tuple(stored["group"])] = [Utterance.model_validate(part) for part in stored["parts"]]

    @property
    def audio(self) -> Audio | None:
        if self.info is None:
            return None
        return Audio(
            container=self.info.container,
            codec=self.info.codec,
            sample_rate_hz=self.info.sample_rate_hz,
            channels=self.info.channels,
            track_channels=self.info.track_channels if self.info.has_several_tracks else None,
            duration_s=self.decoded_samples / SAMPLE_RATE_HZ,
        )

    def channel(self, group: ChannelGroup, parts: list[Utterance]) -> Channel:
        """Return the result of a group's utterances."""
        return Channel(
            **dict(MeanScores.over(parts)),
            channel=group[0],
            track=self.info.track_of(group[0]) if self.info and self.info.has_several_tracks else None,
            mixed=group if len(group) > 1 else None,
            speech_s=sum(part.duration_s for part in parts),
            utterances=tuple(parts),
        )

    @property
    def processing(self) -> Processing:
        return Processing.finished_now(decode_s=self.decode_s, inference_s=self.inference_s)


class Pipeline:
    """Turns recordings into results.

    Parameters
    ----------
    classifier
        Scores the speech segments.
    limits
        The largest recording to accept, and what a decoder may use.
    segmentation
        How recordings are cut.

    Raises
    ------
    VoiceActivityUnavailable
        If the voice activity network is missing or damaged.
    """

    def __init__(self, classifier: EmotionClassifier, limits: MediaLimits, segmentation: SegmentationSettings) -> None:
        self._classifier = classifier
        self._limits = limits
        self._segmentation = segmentation
        # Loaded before the first recording, because Lambda gives the function more CPU time while it starts.
        self._vad = VoiceActivityDetector.load()

    @property
    def limits(self) -> MediaLimits:
        """The largest recording to accept, and what a decoder may use."""
        return self._limits

    @property
    def model(self) -> Model:
        """The model's identity, as stored in results."""
        return self._classifier.identity

    def run(
        self, path: Path, source: Source, *, deadline: Deadline | None = None, store: ProgressStore | None = None
    ) -> Result:
        """Classify one recording.

        Parameters
        ----------
        path
            The file.
        source
            The recording's origin, copied to the result.
        deadline
            The time limit; None sets no limit.
        store
            The stored progress of the recording. Without one, a recording that exceeds the deadline fails.

        Returns
        -------
        The result, with the status `failed` after a permanent error such as damaged audio.

        Raises
        ------
        TransientError
            If the recording did not cause the error, so a retry may succeed.
        RecordingUnfinished
            If the progress is stored and another invocation can continue.
        """
        progress = _Progress()
        try:
            self._classify(path, progress, deadline or Deadline(), store)
        except RecordingError as error:
            return Result.failed(source, self.model, error, audio=progress.audio, processing=progress.processing)
        return self._result(source, progress)

    def _classify(
        self, path: Path, progress: _Progress, deadline: Deadline, store: ProgressStore | None = None
    ) -> None:
        started = time.monotonic()
        progress.info = probe(path, self._limits, deadline)
        progress.decode_s = time.monotonic() - started
        # A recording that can continue in another invocation need not fit into this one.
        duration_s = claimed_s(path, progress.info)
        estimate = ProgressEstimate(None if store else duration_s, deadline)
        identity = {"fingerprint": self.model.fingerprint, "segmentation": self._segmentation.model_dump()}
        resumption = Resumption(store, deadline, identity)
        if stored := resumption.load(duration_s):
            progress.restore(stored)
        cutter = RecordingCutter(self._segmentation, self._vad, stored["cutter"] if stored else None)
        try:
            with closing(decode(path, progress.info, self._limits, deadline)) as blocks:
                for segments in cutter.cut(_with_progress(blocks, progress, estimate)):
                    remaining_s = deadline.remaining_s
                    for segment in segments:
                        self._classify_segment(segment, progress)
                        if deadline.passed:
                            estimate.check(segment.end_s)
                    resumption.after_block(remaining_s, cutter, progress.state)
        except DeadlineExceeded as error:
            resumption.stop(error)
        if progress.decoded_samples == 0:
            raise EmptyRecording("The recording contains no samples.")

    def _classify_segment(self, segment: SpeechSegment, progress: _Progress) -> None:
        started = time.monotonic()
        scores = EmotionScores.of(self._classifier.classify(segment.waveform), self.model.output)
        progress.inference_s += time.monotonic() - started
        # The waveform is not kept: three hours of speech take 700 MB.
        progress.utterances[segment.channels].append(
            Utterance(**dict(scores), start_s=segment.start_s, end_s=segment.end_s)
        )

    def _result(self, source: Source, progress: _Progress) -> Result:
        channels = tuple(progress.channel(group, parts) for group, parts in sorted(progress.utterances.items()))
        overall = MeanScores.over([u for channel in channels for u in channel.utterances]) if channels else None
        return Result(
            status="classified" if overall else "no_speech",
            source=source,
            audio=progress.audio,
            model=self.model,
            **(dict(overall) if overall else {}),
            speech_s=sum(channel.speech_s for channel in channels),
            channels=channels,
            processing=progress.processing,
        ).with_figures()


def _with_progress(blocks: Iterable[Block], progress: _Progress, estimate: ProgressEstimate) -> Iterator[Block]:
    """Yield the same blocks, record the samples and the time spent decoding, and check the deadline."""
    waiting_since = time.monotonic()
    for block in blocks:
        progress.decode_s += time.monotonic() - waiting_since
        progress.decoded_samples += block.shape[1]
        yield block
        # The generator resumes when the next block is requested, after this block was classified.
        estimate.check(progress.decoded_samples / SAMPLE_RATE_HZ)
        waiting_since = time.monotonic()
