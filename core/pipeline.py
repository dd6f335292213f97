"""Turns a file into a result: decode, cut into speech segments, classify, average. Independent of S3."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
    Voices,
)
from core.resumption import ProgressStore, Resumption
from core.settings import MediaLimits, ScoreSettings, SegmentationSettings, Settings, SpeakerMode, SpeakerSettings
from core.speakers.separation import MIN_UTTERANCES, SpeakerSeparator, Times

_MIN_PEAK = 1e-6
"""Digital silence counts as -120 dBFS, because JSON has no infinity."""

Advance = Callable[[float], None]
"""Is called with the share of a recording that is processed, from 0 to 1."""


@dataclass
class _Progress:
    """The facts about a recording so far, which a `failed` result reports too."""

    info: MediaInfo | None = None
    decoded_samples: int = 0
    peak: float = 0.0
    """The highest absolute sample. Each invocation decodes the recording from its start."""
    decode_s: float = 0.0
    inference_s: float = 0.0
    utterances: dict[ChannelGroup, list[Utterance]] = field(default_factory=lambda: defaultdict(list))
    voices: dict[ChannelGroup, Voices] = field(default_factory=dict)
    is_continued: bool = False
    """Whether another invocation has classified all utterances."""
    advance: Advance | None = None
    duration_s: float | None = None
    """The duration that the headers claim, and in a second pass that of the first one."""
    passes: int = 1
    finished_passes: int = 0

    def report(self, samples: int) -> None:
        """Pass on the share that is processed after this many samples of a pass, if the duration is known."""
        if self.advance and self.duration_s:
            share = min(samples / SAMPLE_RATE_HZ / self.duration_s, 1.0)
            self.advance((self.finished_passes + share) / self.passes)

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
        self.decoded_samples = state.get("decoded_samples", 0)
        self.is_continued = self.decoded_samples > 0
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

    @property
    def silent_audio(self) -> Audio | None:
        """The audio with its level, which tells silence from speech that was not found."""
        level_dbfs = 20 * math.log10(max(self.peak, _MIN_PEAK))
        return self.audio.model_copy(update={"peak_dbfs": round(level_dbfs, 1)}) if self.audio else None

    @property
    def shared_lanes(self) -> list[ChannelGroup]:
        """The lanes that several speakers may share. Channels that are classified separately are speakers already."""
        is_mono = self.info is not None and self.info.channels == 1
        return [group for group, parts in sorted(self.utterances.items()) if parts and (is_mono or len(group) > 1)]

    def channel(self, group: ChannelGroup, parts: list[Utterance]) -> Channel:
        """Return the result of a group's utterances."""
        return Channel(
            **dict(MeanScores.over(parts)),
            channel=group[0],
            track=self.info.track_of(group[0]) if self.info and self.info.has_several_tracks else None,
            mixed=group if len(group) > 1 else None,
            speech_s=sum(part.duration_s for part in parts),
            voices=self.voices.get(group),
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
    speakers
        Separates speakers who share a channel; by default, none are.
    scores
        Which scores are marked as unsure; by default, none are.

    Raises
    ------
    VoiceActivityUnavailable
        If the voice activity network is missing or damaged.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        limits: MediaLimits,
        segmentation: SegmentationSettings,
        speakers: SpeakerSeparator | None = None,
        scores: ScoreSettings | None = None,
    ) -> None:
        self._classifier = classifier
        self._limits = limits
        self._segmentation = segmentation
        self.speakers = speakers or SpeakerSeparator(SpeakerSettings())
        self._scores = scores or ScoreSettings()
        # Loaded before the first recording, because Lambda gives the function more CPU time while it starts.
        self._vad = VoiceActivityDetector.load()

    @property
    def limits(self) -> MediaLimits:
        """The largest recording to accept, and what a decoder may use."""
        return self._limits

    @property
    def settings(self) -> tuple[Settings, ...]:
        """The settings that change a result."""
        return self._limits, self._segmentation, self.speakers.options, self._scores

    @property
    def model(self) -> Model:
        """The model's identity, as stored in results."""
        return self._classifier.identity

    def run(
        self,
        path: Path,
        source: Source,
        *,
        deadline: Deadline | None = None,
        store: ProgressStore | None = None,
        speakers: SpeakerMode | None = None,
        advance: Advance | None = None,
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
        speakers
            Whether to separate speakers in this recording; by default as in all recordings.
        advance
            Is called after each block of a recording whose duration is known.

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
        mode, deadline = speakers or self.speakers.mode, deadline or Deadline()
        progress = _Progress(advance=advance, passes=1 if mode == "off" else 2)
        try:
            self.speakers.check(mode)
            self._classify(path, progress, deadline, store)
            if mode != "off":
                self._separate_speakers(path, progress, deadline, store, mode)
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
        duration_s = progress.duration_s = claimed_s(path, progress.info)
        estimate = ProgressEstimate(None if store else duration_s, deadline)
        resumption = self._resumption(store, deadline)
        if stored := resumption.load(duration_s):
            progress.restore(stored)
        if progress.is_continued:
            return
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

    def _resumption(self, store: ProgressStore | None, deadline: Deadline) -> Resumption:
        identity = {"fingerprint": self.model.fingerprint, "segmentation": self._segmentation.model_dump()}
        return Resumption(store, deadline, identity)

    def _separate_speakers(
        self,
        path: Path,
        progress: _Progress,
        deadline: Deadline,
        store: ProgressStore | None,
        mode: Literal["2", "auto"],
    ) -> None:
        """Label the utterances with their speakers, or leave the rest of the work to the next invocation.

        If a whole invocation is too short, the result has the emotions without speakers.

        Raises
        ------
        RecordingUnfinished
            If the next invocation should continue.
        """
        assert progress.info is not None  # because all utterances are classified
        times: dict[ChannelGroup, list[Times]] = {}
        for group in progress.shared_lanes:
            parts = progress.utterances[group]
            can_split = len(parts) >= MIN_UTTERANCES
            progress.voices[group] = Voices(requested=mode, found=None if can_split else 1)
            if can_split:
                times[group] = [(part.start_s, part.end_s) for part in parts]
        if not times:
            return
        progress.duration_s, progress.finished_passes = progress.decoded_samples / SAMPLE_RATE_HZ, 1
        estimate = ProgressEstimate(progress.duration_s, deadline)
        started, decoded_s = time.monotonic(), progress.decode_s
        try:
            with closing(decode(path, progress.info, self._limits, deadline)) as blocks:
                found = self.speakers.separate(_with_progress(blocks, progress, estimate), times, mode)
        except DeadlineExceeded:
            if store and not progress.is_continued:
                self._resumption(store, deadline).stop_between_passes(progress.decoded_samples, progress.state())
            return
        finally:
            progress.inference_s += time.monotonic() - started - (progress.decode_s - decoded_s)
        for group, split in found.items():
            is_split = split.labels is not None
            progress.voices[group] = Voices(requested=mode, found=2 if is_split else 1, similarity=split.similarity)
            if split.labels is not None:
                labelled = zip(progress.utterances[group], split.labels.tolist(), strict=True)
                progress.utterances[group] = [part.model_copy(update={"speaker": each}) for part, each in labelled]

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
            audio=progress.audio if overall else progress.silent_audio,
            model=self.model,
            **(dict(overall) if overall else {}),
            speech_s=sum(channel.speech_s for channel in channels),
            channels=channels,
            processing=progress.processing,
            unsure_below=self._scores.unsure_below or None if overall and overall.scores else None,
        ).with_figures()


def _with_progress(blocks: Iterable[Block], progress: _Progress, estimate: ProgressEstimate) -> Iterator[Block]:
    """Yield the same blocks, record the samples and the time spent decoding, and check the deadline."""
    samples = 0
    waiting_since = time.monotonic()
    for block in blocks:
        progress.decode_s += time.monotonic() - waiting_since
        samples += block.shape[1]
        progress.peak = max(progress.peak, float(block.max(initial=0.0)), -float(block.min(initial=0.0)))
        progress.decoded_samples = max(progress.decoded_samples, samples)  # the second pass decodes them again
        yield block
        # The generator resumes when the next block is requested, after this block was processed.
        estimate.check(samples / SAMPLE_RATE_HZ)
        progress.report(samples)
        waiting_since = time.monotonic()
