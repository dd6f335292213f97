"""The result document, its figures (`metrics`), its emotions in words (`verdict`), and its CSV (`csv_table`)."""

from core.results.document import Error, Processing, Result, json_schema, now
from core.results.fields import Audio, Milliseconds, Model, Output, Probability, Seconds, Source, Value
from core.results.speech import (
    Channel,
    EmotionScores,
    MeanScores,
    Speaker,
    SpeechFigures,
    Utterance,
    Voices,
    mean_values,
)

__all__ = [
    "Audio",
    "Channel",
    "EmotionScores",
    "Error",
    "MeanScores",
    "Milliseconds",
    "Model",
    "Output",
    "Probability",
    "Processing",
    "Result",
    "Seconds",
    "Source",
    "Speaker",
    "SpeechFigures",
    "Utterance",
    "Value",
    "Voices",
    "json_schema",
    "mean_values",
    "now",
]
