"""The report's limits: the footer, and the pages of recordings without a result to show."""

from collections.abc import Iterator

from core.formatting import DEMO_NOTICE
from core.report.looks import text
from core.results import Error, Model, Result
from core.settings import SegmentationSettings

_LEARNED_FROM = {
    "xmj2002/hubert-base-ch-speech-emotion-recognition": "acted Mandarin of four speakers (CASIA)",
    "ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition": "acted English of 24 speakers (RAVDESS)",
    "superb/hubert-large-superb-er": "English dialogues of ten actors (IEMOCAP)",
    "superb/hubert-base-superb-er": "English dialogues of ten actors (IEMOCAP)",
    "superb/wav2vec2-large-superb-er": "English dialogues of ten actors (IEMOCAP)",
    "superb/wav2vec2-base-superb-er": "English dialogues of ten actors (IEMOCAP)",
    "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim": "English podcasts (MSP-Podcast)",
}
"""The training data of checkpoints, by their name on the Hugging Face Hub."""

_SILENT_DBFS, _QUIET_DBFS = -80.0, -40.0

_SCORE = (
    "A score is the model's probability that an utterance sounds like one of its labels, the only ones it knows. "
    "It does not measure what a person feels, or how strongly."
)
_VALUE = "A value is the model's estimate of how an utterance sounds. It does not measure what a person feels."


def footer(model: Model) -> Iterator[str]:
    """Yield what the model learned from, and what a score is not."""
    name = f"{text(model.id)} ({text(model.precision)})"
    yield "<footer><h2>About these results</h2>"
    yield f"<p>Model: {name}. {_learned_from(model)}</p>"
    yield f"<p>{_VALUE if model.dimensions else _SCORE} Do not base a decision about a person on it.</p></footer>"


def _learned_from(model: Model) -> str:
    if model.demo:
        return DEMO_NOTICE
    if data := _LEARNED_FROM.get(model.id):
        return f"It learned from {data}. Expect more errors for other speakers, languages and telephone lines."
    return (
        "Its model card says what it learned from. Expect more errors for speech that differs from its training data."
    )


def failure(error: Error) -> Iterator[str]:
    """Yield why a recording could not be classified."""
    yield '<section class="verdict"><h2>This recording could not be classified</h2>'
    yield f"<p>{text(error.message)}</p>"
    yield f'<p class="facts">Code: {text(error.code)}</p></section>'


def silence(result: Result) -> Iterator[str]:
    """Yield that nobody speaks, and the settings that matter."""
    missing = "are no values" if result.model.dimensions else "is no emotion"
    yield '<section class="verdict"><h2>No speech</h2>'
    yield f"<p>This recording contains no speech, so there {missing} to show.</p>"
    if result.audio and result.audio.peak_dbfs is not None:
        yield f"<p>{_level_in_words(result.audio.peak_dbfs)}</p>"
    yield "</section>"
    yield '<section aria-labelledby="settings"><h2 id="settings">If someone speaks</h2><ul class="advice">'
    yield "".join(f"<li>{advice}</li>" for advice in _advice()) + "</ul></section>"


def _level_in_words(peak_dbfs: float) -> str:
    level = f"The peak level is {peak_dbfs:.0f} dBFS".replace("-", "\N{MINUS SIGN}")
    if peak_dbfs <= _SILENT_DBFS:
        return f"{level}: the recording is silent. Check the microphone, the line or the export."
    if peak_dbfs <= _QUIET_DBFS:
        return f"{level}: the recording is very quiet. Speech may be too faint to be found."
    return f"{level}: the recording is loud enough. It has noise, music or tones, or the settings exclude its speech."


def _advice() -> Iterator[str]:
    defaults = {name: field.default for name, field in SegmentationSettings.model_fields.items()}
    yield "Listen to the recording. If you hear speech, change a setting of the classification, and classify again:"
    for name, words in (
        ("speech_threshold", "A lower value finds speech that is faint or noisy."),
        ("short_speech_threshold", "The same for recordings of up to six seconds."),
        ("min_speech_s", "A lower value, in seconds, keeps single short words."),
    ):
        yield f"<code>{name.upper()}</code> (default {defaults[name]}): {words}"
