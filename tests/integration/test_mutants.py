"""Some of the mutants of `make fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.results import Result, Source
from tests.support.mutants import MEMORY_GROWTH_LIMIT_MB, Checker, mutant, originals, run

SEED = 20_000


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_every_mutant_gets_a_result(count: int) -> None:
    report = run(count, SEED, jobs=2)

    assert report.outcomes.total() == count
    assert report.broken == {}
    # Some mutants are classified, so that the whole pipeline runs.
    assert report.outcomes["classified"] > count / 20
    assert report.outcomes["not_audio"] > count / 20


def test_a_mutant_follows_from_its_seed_and_number() -> None:
    recordings = originals()

    some = [mutant(SEED, number, recordings) for number in range(50)]

    assert some == [mutant(SEED, number, recordings) for number in range(50)]
    assert len(set(some)) > 45
    assert len(set(some) - set(recordings)) > 40  # overwriting zeros with zeros changes nothing


@pytest.fixture
def checker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checker:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    return Checker()


def test_the_checker_reports_leftovers_and_exceptions(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pipeline = checker._pipeline.run

    def leaving_a_file(path: Path, source: Source) -> Result:
        (tmp_path / "left").touch()
        return run_pipeline(path, source)

    def raising(path: Path, source: Source) -> Result:
        raise ZeroDivisionError("division by zero")

    assert checker.check(b"no recording")["broken"] == []
    monkeypatch.setattr(checker._pipeline, "run", leaving_a_file)
    assert "left behind" in checker.check(b"no recording")["broken"][0]
    monkeypatch.setattr(checker._pipeline, "run", raising)
    assert checker.check(b"no recording")["broken"] == ["raised ZeroDivisionError: division by zero"]


def test_the_checker_reports_memory_that_was_released_again(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    run_pipeline = checker._pipeline.run

    def using_memory(path: Path, source: Source) -> Result:
        # The kernel allocates no memory for zeros until they are written.
        assert len(b"x" * ((MEMORY_GROWTH_LIMIT_MB + 100) << 20)) > 0
        return run_pipeline(path, source)

    monkeypatch.setattr(checker._pipeline, "run", using_memory)

    assert "memory grew" in checker.check(b"no recording")["broken"][0]


def test_the_checker_reports_a_decoder_above_its_limit(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    run_pipeline = checker._pipeline.run
    # More than any earlier child, and more than this process: a child starts with the memory of its parent.
    max_mb = max(checker._pipeline.limits.decoder_memory_mb, checker._own_mb_before, checker._children_mb_before)
    program = f"x = b'x' * ({max_mb + 200:.0f} << 20)"

    def with_large_decoder(path: Path, source: Source) -> Result:
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
        return run_pipeline(path, source)

    monkeypatch.setattr(checker._pipeline, "run", with_large_decoder)

    assert any("a decoder took" in broken for broken in checker.check(b"no recording")["broken"])


HANGING_WORKER = """
import json, sys, time
for number in json.load(sys.stdin)[1]:
    print("begin", number, flush=True)
    time.sleep(600 if number == 2 else 0)
    print(json.dumps({"number": number, "outcome": "classified", "s": 0.1, "broken": []}), flush=True)
"""


@pytest.mark.timeout(120)
def test_a_hanging_worker_is_killed_and_the_others_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.mutants._WORKER", [sys.executable, "-c", HANGING_WORKER])
    monkeypatch.setattr("tests.support.mutants.MAX_SILENCE_S", 2.0)

    report = run(5, SEED)

    assert report.broken == {2: ["hung for 2 s"]}
    assert report.outcomes == {"classified": 4, "hung": 1}
