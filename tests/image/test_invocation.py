"""Invocations of the image in a sandbox: results, isolation, and agreement with this machine's ffmpeg."""

import json
from pathlib import Path

import pytest

from core.audio.formats import FORMATS
from core.benchmark import Answer
from core.local.stack import UPLOADS_BUCKET, Stack
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits, SegmentationSettings, read
from tests.image.conftest import event, result
from tools.container import Container, Network, docker
from tools.emulator import ROOT
from tools.invoke import stage

SAMPLES = sorted(file for file in (ROOT / "samples").glob("*.*") if file.suffix not in {".md", ".json", ".csv"})


@pytest.mark.parametrize("name", ["s3-put", "s3-multipart", "eventbridge"])
def test_an_upload_gets_its_result(function: Container, stack: Stack, name: str) -> None:
    sent = stage(event(name), stack)
    assert function.invoke(sent) == {"uploads": 1}
    key = sent["detail"]["object"]["key"] if "detail" in sent else sent["Records"][0]["s3"]["object"]["key"]
    document = result(stack, key)
    assert document["status"] == "classified"
    assert document["source"]["bucket"] == UPLOADS_BUCKET


def test_a_key_with_chinese_characters_and_spaces_gets_its_result(function: Container, stack: Stack) -> None:
    function.invoke(stage(event("s3-put-unicode-key"), stack))
    assert result(stack, "calls/王 小明/2026-01-12 +86 10 1234 (愤怒).wav")["status"] == "classified"


def test_only_the_bad_message_of_a_batch_is_retried(function: Container, stack: Stack) -> None:
    batch = stage(event("sqs-batch-one-bad"), stack)
    assert function.invoke(batch) == {"batchItemFailures": [{"itemIdentifier": batch["Records"][1]["messageId"]}]}
    for good in (batch["Records"][0], batch["Records"][2]):
        key = json.loads(good["body"])["Records"][0]["s3"]["object"]["key"]
        assert result(stack, key)["status"] == "classified"


@pytest.mark.parametrize(
    ("name", "answer"), [("s3-test-event", {"uploads": 0}), ("sqs-s3-test-event", {"batchItemFailures": []})]
)
def test_the_test_event_is_acknowledged(function: Container, stack: Stack, name: str, answer: object) -> None:
    before = stack.results()
    assert function.invoke(event(name)) == answer
    assert stack.results() == before


@pytest.mark.native(reason="Two emulated rounds take longer than a benchmark may.")
def test_a_benchmark_classifies_the_speech_in_the_image(function: Container, stack: Stack) -> None:
    before = stack.results()
    answer = Answer.model_validate(function.invoke({"benchmark": {"rounds": 1}}))
    assert [each.utterances for each in answer.recordings] == [1, 1, 1, 1, 7]
    assert answer.peak_memory_mb is not None
    assert stack.results() == before
    assert function.run("ls", "-A", "/tmp") == ""


def test_an_unknown_event_is_rejected(function: Container) -> None:
    answer = function.invoke({"hello": "world"})
    assert answer["errorType"] == "EventNotUnderstood"


def test_an_upload_that_is_not_audio_gets_a_failed_result(function: Container, stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "anger.wav").write_text("this is text")
    function.invoke(stage(event("s3-put"), stack, samples=tmp_path))
    assert result(stack, "anger.wav")["error"]["code"] == "not_audio"


# ------------------------------------------------------------------------------------------------------- the sandbox


def test_tmp_is_empty_afterwards(function: Container, stack: Stack) -> None:
    function.invoke(stage(event("s3-put"), stack))
    assert function.run("ls", "-A", "/tmp") == ""


def test_it_runs_as_an_unprivileged_user_and_can_write_to_tmp_only(function: Container) -> None:
    assert run_python(function, "print(os.getuid())") != "0"
    where = run_python(
        function,
        "for d, _, _ in walk():\n"
        "  try: open(d + '/x', 'w').close(); os.remove(d + '/x'); print(d)\n"
        "  except OSError: pass",
    )
    assert where.split() == ["/tmp"]
    status = dict(
        line.split(":\t", 1) for line in function.run("cat", "/proc/self/status").splitlines() if ":\t" in line
    )
    assert int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"


@pytest.mark.native(reason="It ignores limits of memory (RLIMIT_AS).")
def test_a_decoder_cannot_exceed_its_memory(function: Container) -> None:
    # This machine's and Lambda's kernel apply the limit; the sandbox of the container does not.
    program = (
        "from core.audio.ffmpeg import run_sandboxed\n"
        "from core.deadline import Deadline\n"
        "from core.settings import MediaLimits\n"
        "greedy = ['/usr/bin/python3', '-c', 'import time; time.sleep(0.5); bytearray(512 << 20)']\n"
        "with run_sandboxed(greedy, MediaLimits(decoder_memory_mb=256), Deadline.after(60)) as decoder:\n"
        "  decoder.read(1)\n"
        "print(decoder.messages.decode())\n"
    )
    assert run_python(function, program).endswith("MemoryError")


def test_the_container_is_on_the_internal_network_only(function: Container, network: Network) -> None:
    assert docker("network", "inspect", "--format", "{{.Internal}}", network.name) == "true"
    attached = docker(
        "inspect", "--format", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}", function.name
    )
    assert attached.split() == [network.name]


def test_the_image_has_no_build_tools_and_no_setuid_programs(function: Container) -> None:
    tools = ["apt", "apt-get", "cc", "curl", "gcc", "ld", "perl", "pip", "pip3", "su", "sudo", "wget"]
    found = run_python(
        function,
        "import sys\n"
        "files = [os.path.join(d, f) for d, _, fs in walk() for f in fs]\n"
        "bad = [p for p in files if os.path.basename(p) in json.loads(sys.argv[1])]\n"
        "bad += [p for p in files if not os.path.islink(p) and os.stat(p).st_mode & 0o6000]\n"
        "bad += [d for d, _, _ in walk() if d.endswith(('/pip', '/torch', '/transformers', '/setuptools'))]\n"
        "print(json.dumps(bad))",
        json.dumps(tools),
    )
    assert json.loads(found) == []


def test_every_module_is_compiled_with_an_unchecked_hash(function: Container) -> None:
    # Bytes 4 to 8 of a compiled module are flags: 1 for a hash instead of a time, 2 for a hash that Python checks.
    flags = run_python(
        function,
        "import collections, pathlib\n"
        "roots = ('/opt/python', '/var/task', '/usr/lib/python3.11')\n"
        "compiled = [p for r in roots for p in pathlib.Path(r).rglob('*.pyc')]\n"
        "print(json.dumps(collections.Counter(p.read_bytes()[4:8].hex() for p in compiled)))",
    )
    ((flag, count),) = json.loads(flags).items()
    assert flag == "01000000"
    assert count > 1000


def run_python(function: Container, program: str, *arguments: str) -> str:
    """Run a program in the container, and return its output. Its function `walk` yields the files of the image."""
    walk = (
        "import json, os\n"
        "def walk():\n"
        "  for d, ds, fs in os.walk('/'):\n"
        "    if d == '/': ds[:] = [x for x in ds if x not in ('proc', 'sys', 'dev')]\n"
        "    yield d, ds, fs\n"
    )
    return function.run("/usr/bin/python3", "-c", walk + program, *arguments)


# ------------------------------------------------------------------------------------- agreement with this machine


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda file: file.name)
def test_a_sample_has_the_same_scores_as_with_this_machine_s_ffmpeg(
    function: Container, stack: Stack, host_pipeline: Pipeline, sample: Path
) -> None:
    stack.upload(sample)
    head = stack.s3.head_object(Bucket=UPLOADS_BUCKET, Key=sample.name)
    sent = event("eventbridge")
    sent["detail"]["object"] = {"key": sample.name, "version-id": head["VersionId"], "etag": head["ETag"].strip('"')}
    function.invoke(sent)
    in_image = result(stack, sample.name)

    here = host_pipeline.run(sample, Source(bucket="b", key=sample.name, etag="e", size_bytes=1))
    assert in_image["status"] == here.status
    assert in_image["emotion"] == here.emotion
    assert in_image["scores"] == pytest.approx(dict(here.scores or {}), abs=1e-3)


@pytest.fixture(scope="module")
def host_pipeline(image_model: Path) -> Pipeline:
    """The pipeline on this machine, with this machine's ffmpeg and the image's model."""
    return Pipeline(EmotionClassifier.load(image_model), read(MediaLimits), read(SegmentationSettings))


def test_the_image_s_ffmpeg_has_a_demuxer_for_every_accepted_container(function: Container) -> None:
    listed = function.run("ffmpeg", "-hide_banner", "-demuxers").partition("--\n")[2]
    names = {name for line in listed.splitlines() for name in line.split()[1].split(",")}
    assert set(FORMATS.split(",")) <= names
    assert names.isdisjoint({"hls", "dash", "concat", "sdp", "rtsp", "image2", "lavfi", "tedcaptions", "applehttp"})


def test_the_image_s_ffmpeg_has_no_network_protocols(function: Container) -> None:
    protocols = set(function.run("ffmpeg", "-hide_banner", "-protocols").split()) - {"Supported", "Input:", "Output:"}
    assert protocols == {"file", "protocols:", "pipe"}
