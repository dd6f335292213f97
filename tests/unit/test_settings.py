"""Settings have defaults, and an unusable value is reported at start."""

import pytest

from core.errors import SettingsInvalid
from core.model.classifier import default_threads
from core.settings import CLI_PREFIX, FunctionSettings, MediaLimits, ModelSettings, SegmentationSettings, read


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for group in (MediaLimits, ModelSettings, FunctionSettings, SegmentationSettings):
        for name in group.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("RESULTS_BUCKET", "results")


def test_only_the_results_bucket_has_no_default() -> None:
    settings = read(FunctionSettings)

    assert (settings.results_bucket, settings.results_prefix) == ("results", "results/")
    assert read(MediaLimits).max_duration_s == 12 * 3600


def test_a_value_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_DURATION_S", "90.5")

    assert read(MediaLimits).max_duration_s == 90.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_DURATION_S", "long"),
        ("MAX_DURATION_S", "-1"),
        ("MAX_DURATION_S", "nan"),
        ("MAX_DURATION_S", "inf"),
        ("DECODER_TIMEOUT_S", "inf"),
        ("MAX_SIZE_BYTES", "0"),
        ("MAX_SIZE_BYTES", "1.5"),
        ("MAX_CHANNELS", "65"),
        ("DECODER_MEMORY_MB", "10"),
        ("DECODER_TIMEOUT_S", "nan"),
    ],
)
def test_an_invalid_limit_is_named_in_one_sentence(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsInvalid, match=rf"{name}: ") as refusal:
        read(MediaLimits)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "value"),
    [("RESULTS_BUCKET", ""), ("MAX_RECEIVE_COUNT", "0"), ("DEADLINE_MARGIN_S", "-3"), ("DEADLINE_MARGIN_S", "nan")],
)
def test_an_invalid_function_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsInvalid, match=rf"{name}: "):
        read(FunctionSettings)


def test_a_missing_results_bucket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESULTS_BUCKET")

    with pytest.raises(SettingsInvalid, match="RESULTS_BUCKET: Field required"):
        read(FunctionSettings)


def test_every_problem_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_CHANNELS", "0")
    monkeypatch.setenv("MAX_DURATION_S", "0")

    with pytest.raises(SettingsInvalid, match=r"MAX_DURATION_S: .*; MAX_CHANNELS: "):
        read(MediaLimits)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_DURATION_S", "")
    monkeypatch.setenv("CHANNELS", "")

    assert read(MediaLimits).max_duration_s == 12 * 3600
    assert read(SegmentationSettings).channels == "auto"


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("SHORTEST_PAUSE_S", "MIN_SILENCE_S", "0.7"),
        ("SHORTEST_SPEECH_S", "MIN_SPEECH_S", "0.2"),
        ("PADDING_S", "SPEECH_PAD_S", "0.1"),
    ],
)
def test_the_old_name_of_a_renamed_setting_works_with_a_warning(
    old: str, new: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(old, value)

    assert getattr(read(SegmentationSettings), new.lower()) == float(value)
    assert f"{old} is deprecated" in caplog.text
    assert f"set {new} instead" in caplog.text


@pytest.mark.parametrize("value", ["old/", ""])
def test_the_prefix_of_leases_keeps_its_old_name(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAIMS_PREFIX", value)

    assert read(FunctionSettings).leases_prefix == value


def test_the_new_name_wins_over_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAIMS_PREFIX", "old/")
    monkeypatch.setenv("LEASES_PREFIX", "new/")

    assert read(FunctionSettings).leases_prefix == "new/"


def test_an_unusable_value_is_reported_under_the_name_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTEST_PAUSE_S", "long")

    with pytest.raises(SettingsInvalid, match="SHORTEST_PAUSE_S: "):
        read(SegmentationSettings)


def test_the_command_line_ignores_a_variable_of_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANNELS", "2")

    assert read(SegmentationSettings, prefix=CLI_PREFIX).channels == "auto"


def test_the_command_line_reads_prefixed_names_and_deprecated_plain_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CHANNELS", "mix")
    monkeypatch.setenv("MAX_CHANNELS", "4")
    monkeypatch.setenv("AUDIO_EMOTION_MAX_CHANNELS", "8")

    assert read(SegmentationSettings, prefix=CLI_PREFIX).channels == "mix"
    assert "CHANNELS is deprecated" in caplog.text
    assert read(MediaLimits, prefix=CLI_PREFIX).max_channels == 8


@pytest.mark.parametrize(
    ("results", "leases", "is_valid"),
    [
        ("results/", "claims/", True),
        ("", "claims/", False),
        ("a/", "a/b/", False),
        ("a/b/", "a/", False),
        ("same/", "same/", False),
        ("", "", True),
        ("results/", "", True),
    ],
)
def test_results_and_leases_have_separate_prefixes(
    results: str, leases: str, is_valid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESULTS_PREFIX", results)
    monkeypatch.setenv("LEASES_PREFIX", leases)

    if is_valid:
        assert read(FunctionSettings).leases_prefix == leases
    else:
        with pytest.raises(SettingsInvalid, match=r"settings: (?!Value error).*must not contain each other"):
            read(FunctionSettings)


@pytest.mark.parametrize(("memory_mb", "threads"), [(512, 1), (1769, 1), (2048, 1), (3008, 2), (3538, 2), (10240, 6)])
def test_in_lambda_threads_follow_from_the_memory_size(
    memory_mb: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))

    assert default_threads(ModelSettings(aws_lambda_function_memory_size=memory_mb)) == threads


def test_there_are_never_more_threads_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})

    assert default_threads(ModelSettings(aws_lambda_function_memory_size=10240)) == 2
    assert default_threads(ModelSettings()) == 2


def test_a_configured_number_of_threads_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_THREADS", "3")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")

    assert default_threads(read(ModelSettings)) == 3
