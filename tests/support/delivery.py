"""Uploads, and a delivery that counts its inferences."""

import json
from contextlib import AbstractContextManager
from typing import Any

from core.audio.waveform import Waveform
from core.delivery import Delivery, Upload
from core.delivery.lease import lease
from core.delivery.storage import Storage
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack
from core.model.classifier import EmotionClassifier, Network
from core.model.output import Logits
from core.pipeline import Pipeline
from core.settings import FunctionSettings, MediaLimits, SegmentationSettings

SETTINGS = FunctionSettings(results_bucket=RESULTS_BUCKET)


class CountingNetwork:
    """A real network that counts its inferences."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.inferences = 0

    def logits(self, waveform: Waveform) -> Logits:
        self.inferences += 1
        return self._network.logits(waveform)


class World:
    """A stack and a delivery."""

    def __init__(self, stack: Stack, classifier: EmotionClassifier) -> None:
        self.stack = stack
        self.network = CountingNetwork(classifier._network)
        self.classifier = EmotionClassifier(self.network, classifier.identity)
        self.storage = Storage(stack.s3)
        self.delivery = self.delivery_with()

    def delivery_with(
        self, storage: Storage | None = None, settings: FunctionSettings = SETTINGS, limits: MediaLimits | None = None
    ) -> Delivery:
        pipeline = Pipeline(self.classifier, limits or MediaLimits(), SegmentationSettings())
        return Delivery(storage or self.storage, pipeline, settings)

    def put(self, key: str, body: bytes, sequencer: str | None = None) -> Upload:
        answer = self.stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=body)
        return Upload(UPLOADS_BUCKET, key, answer["VersionId"], answer["ETag"].strip('"'), sequencer=sequencer)

    def result(self, key: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stack.result(f"results/{key}.json"))
        return document

    def has_result(self, key: str) -> bool:
        return f"results/{key}.json" in self.stack.results()

    def lease(self, key: str, duration_s: float) -> AbstractContextManager[None]:
        return lease(self.storage, RESULTS_BUCKET, key, duration_s)

    def leases(self) -> list[str]:
        listed = self.stack.s3.list_objects_v2(Bucket=RESULTS_BUCKET, Prefix="claims/")
        return [item["Key"] for item in listed.get("Contents", [])]
