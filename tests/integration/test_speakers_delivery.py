"""Exactly one result for each upload and mode of separating speakers, with moto's S3."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.audio.waveform import SAMPLE_RATE_HZ
from core.delivery import Attempt, Delivery, Upload
from core.delivery.metadata import SPEAKERS_KEY
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, running_stack
from core.model.classifier import EmotionClassifier
from core.operations.backfill import is_done
from core.operations.results import read_results
from core.pipeline import Pipeline
from core.settings import MediaLimits, SegmentationSettings, SpeakerMode, SpeakerSettings
from core.speakers.separation import SpeakerSeparator
from tests.support.delivery import SETTINGS, World
from tests.support.voices import two_voices, write_speaker_network

MODES: tuple[SpeakerMode, ...] = ("off", "2", "auto")


def wav(*channels: "np.ndarray[Any, np.dtype[np.float32]]") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack(channels, axis=1), SAMPLE_RATE_HZ, format="WAV")
    return buffer.getvalue()


CALL = wav(two_voices(4)[0])


class SpeakersWorld(World):
    """A stack, and deliveries with each mode as the setting."""

    def __init__(self, *args: Any, network: Path) -> None:
        self._speakers_model = network
        super().__init__(*args)

    def deliver(self, mode: SpeakerMode, upload: Upload, attempt: Attempt | None = None) -> str:
        """Return the kind of the outcome."""
        separator = SpeakerSeparator(SpeakerSettings(speakers=mode, speakers_model=self._speakers_model))
        pipeline = Pipeline(self.classifier, MediaLimits(), SegmentationSettings(), separator)
        return Delivery(self.storage, pipeline, SETTINGS).deliver(upload, attempt or Attempt()).kind

    def put_with(self, key: str, body: bytes, **metadata: str) -> Upload:
        answer = self.stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=body, Metadata=metadata)
        return Upload(UPLOADS_BUCKET, key, answer["VersionId"], answer["ETag"].strip('"'))

    def voices(self, key: str) -> dict[str, Any] | None:
        [channel] = self.result(key)["channels"]
        voices: dict[str, Any] | None = channel.get("voices")
        return voices

    def metadata(self, key: str) -> dict[str, str]:
        return self.stack.s3.head_object(Bucket=RESULTS_BUCKET, Key=f"results/{key}.json")["Metadata"]


@pytest.fixture
def world(aws_server: str, classifier: EmotionClassifier, tmp_path: Path) -> Iterator[SpeakersWorld]:
    network = write_speaker_network(tmp_path / "speakers.onnx")
    with running_stack(endpoint=aws_server) as stack:
        yield SpeakersWorld(stack, classifier, network=network)


def test_another_mode_makes_another_result_once(world: SpeakersWorld) -> None:
    upload = world.put("call.wav", CALL)
    outcomes = [world.deliver(mode, upload) for mode in ("off", "2", "2", "auto", "auto", "2")]
    assert outcomes == ["stored", "stored", "duplicate", "stored", "duplicate", "stored"]
    assert world.voices("call.wav") is not None


def test_off_keeps_a_result_with_speakers(world: SpeakersWorld) -> None:
    """A duplicate event that the previous deployment processes must not remove what the new one has added."""
    upload = world.put("call.wav", CALL)
    assert world.deliver("auto", upload) == "stored"
    assert world.deliver("off", upload) == "duplicate"


def test_the_mode_matters_only_where_speakers_may_share_a_channel(world: SpeakersWorld) -> None:
    one, other = (two_voices(4, seed=seed)[0][: 10 * SAMPLE_RATE_HZ] for seed in (0, 1))
    uploads = [
        world.put("stereo.wav", wav(one, np.roll(other, 4 * SAMPLE_RATE_HZ))),
        world.put("silence.wav", wav(np.zeros(SAMPLE_RATE_HZ, np.float32))),
        world.put("damaged.wav", b"RIFF"),
    ]
    for upload in uploads:
        assert [world.deliver(mode, upload) for mode in MODES] == ["stored", "duplicate", "duplicate"]


def test_a_result_of_an_earlier_release_was_made_without_speakers(world: SpeakersWorld) -> None:
    upload = world.put("call.wav", CALL)
    world.deliver("off", upload)
    metadata = {name: value for name, value in world.metadata("call.wav").items() if name != "speakers"}
    key = "results/call.wav.json"
    body = world.stack.s3.get_object(Bucket=RESULTS_BUCKET, Key=key)["Body"].read()
    world.stack.s3.put_object(Bucket=RESULTS_BUCKET, Key=key, Body=body, Metadata=metadata)

    assert world.deliver("off", upload) == "duplicate"
    assert world.deliver("auto", upload) == "stored"


@pytest.mark.parametrize("setting", MODES)
def test_the_metadata_of_an_upload_overrides_the_setting(world: SpeakersWorld, setting: SpeakerMode) -> None:
    upload = world.put_with("call.wav", CALL, **{SPEAKERS_KEY: "2"})
    assert world.deliver(setting, upload) == "stored"
    voices = world.voices("call.wav")
    assert voices is not None
    assert (voices["requested"], voices["found"]) == ("2", 2)
    assert world.deliver(setting, upload) == "duplicate"


def test_metadata_can_switch_the_separation_off(world: SpeakersWorld) -> None:
    upload = world.put_with("call.wav", CALL, **{SPEAKERS_KEY: "off"})
    assert world.deliver("2", upload) == "stored"
    assert world.voices("call.wav") is None
    assert world.deliver("2", upload) == "duplicate"


def test_unknown_metadata_is_a_failure_in_one_sentence(world: SpeakersWorld) -> None:
    upload = world.put_with("call.wav", CALL, **{SPEAKERS_KEY: "3"})
    assert world.deliver("off", upload) == "stored"
    error = world.result("call.wav")["error"]
    assert error["code"] == "invalid_metadata"
    assert error["message"] == f"The metadata {SPEAKERS_KEY} must be one of off, 2, auto, not '3'."
    assert world.deliver("off", upload) == "duplicate"


def test_a_backfill_repairs_a_request_without_the_network(world: SpeakersWorld, tmp_path: Path) -> None:
    upload = world.put_with("call.wav", CALL, **{SPEAKERS_KEY: "2"})
    installed, world._speakers_model = world._speakers_model, tmp_path / "missing.onnx"
    assert world.deliver("off", upload) == "stored"
    assert world.result("call.wav")["error"]["code"] == "speakers_unavailable"
    assert world.deliver("off", upload) == "duplicate"

    world._speakers_model = installed
    assert world.deliver("off", upload, Attempt(retry_recoverable=True)) == "stored"
    assert world.voices("call.wav") is not None


def test_the_estimate_of_a_backfill_knows_the_mode(world: SpeakersWorld, classifier: EmotionClassifier) -> None:
    world.deliver("off", world.put("off.wav", CALL))
    world.deliver("auto", world.put("auto.wav", CALL))
    keys = ["results/off.wav.json", "results/auto.wav.json"]
    found = list(read_results(world.stack.s3, RESULTS_BUCKET, keys))

    done = {mode: sum(is_done(stored, classifier.identity.fingerprint, mode) for stored in found) for mode in MODES}

    assert done == {"off": 2, "auto": 1, "2": 0}
