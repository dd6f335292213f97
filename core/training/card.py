"""The model card of a trained checkpoint, README.md."""

from collections.abc import Iterator, Mapping

from core.audio.waveform import SAMPLE_RATE_HZ, WINDOW_SAMPLES
from core.checkpoints.architecture import InputMode
from core.evaluation.predictions import percent, points
from core.formatting import clock, counted, printable
from core.training.report import TrainingReport


def model_card(report: TrainingReport, name: str) -> str:
    """Return the card as Markdown, with the metadata of the Hugging Face Hub at its head."""
    return "\n".join(_lines(report, name)) + "\n"


def _lines(report: TrainingReport, name: str) -> Iterator[str]:
    yield from ("---", "library_name: transformers", "pipeline_tag: audio-classification")
    yield from ("tags: [speech-emotion-recognition]", "---", "", f"# {_plain(name)}", "")
    yield f"Speech emotion recognition, trained from `{_plain(report.start_id)}` ({_plain(report.start_revision)})."
    yield f"Labels: {', '.join(map(_plain, report.labels))}."
    yield f"`audio-emotion train` {report.version} wrote this checkpoint: {report.method}."
    if report.input_mode is InputMode.PADDED_WINDOW:
        yield (
            f"The network classifies a padded window: pad each clip with zeros to {WINDOW_SAMPLES:,} samples at "
            f"{SAMPLE_RATE_HZ:,} Hz, then normalise them. Give transformers no attention mask."
        )
    yield from ("", "## Data", "", f"{clock(report.data.duration_s)} of speech.", "")
    yield from _table("label", report.data.clips)
    if report.data.speakers:
        yield from _table("speaker", report.data.speakers)
    if report.data.without_speech:
        yield f"{counted(report.data.without_speech, 'clip')} without speech were left out."
    yield from ("", "## Figures", "", report.split, "")
    yield "| recordings | clips | unweighted accuracy | macro-F1 | start checkpoint | difference | more than chance |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    for condition, figures in report.figures.items():
        yield (
            f"| {condition} | {figures.clips:,} | {percent(figures.unweighted_accuracy)} | "
            f"{percent(figures.macro_f1)} | {' | '.join(compared(report, condition))} |"
        )
    for condition, figures in report.figures.items():
        yield from ("", f"Recall, {condition}:", "", "| label | recall |", "|---|---:|")
        yield from (f"| {_plain(label)} | {percent(recall)} |" for label, recall in figures.recall.items())
    yield from ("", "Values in brackets are 95 % intervals from a bootstrap over speakers, or over clips without them.")
    yield from ("", report.calibration_in_words)
    yield from ("", "## Limits", "", *(f"- {sentence}" for sentence in report.limits))
    yield "- A label is how a person sounds to the annotators, not what the person feels."
    yield "- Other speakers, languages, microphones and lines usually give less. Measure with `audio-emotion evaluate`."


def compared(report: TrainingReport, condition: str) -> tuple[str, str, str]:
    """Return the start's accuracy, the difference, and whether it is more than chance, as text."""
    comparison = report.comparison.get(condition)
    if comparison is None:
        return ("other labels", "-", "-")
    is_more = "yes" if comparison.is_more_than_chance else "no"
    if comparison.difference.is_clear and not comparison.is_more_than_chance:
        is_more = "too few speakers"
    clips = "" if comparison.clips == report.figures[condition].clips else f", {comparison.clips:,} clips"
    start = f"{percent(comparison.start.unweighted_accuracy)}{clips}"
    return start, points(comparison.difference), is_more


def _table(name: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield from (f"| {name} | clips |", "|---|---:|")
    yield from (f"| {_plain(key)} | {number:,} |" for key, number in counts.items())
    yield ""


def _plain(text: str) -> str:
    """Return text that cannot end a cell, a line or a code span."""
    return printable(text).replace("|", "/").replace("`", "'")
