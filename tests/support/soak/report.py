"""The report of a soak: what was lost, repeated, or grew."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.delivery.keys import result_key_for
from core.local.stack import RESULTS_PREFIX, Stack
from tests.support.faults.fault_proxy import FaultyEndpoint
from tests.support.soak.account import Pass, differences, growth, is_repeated, passes, percentiles
from tests.support.tables import machine, show

if TYPE_CHECKING:
    from tests.support.soak.run import Course

WARM_AFTER = 200
"""Recordings of a worker after which its memory must not grow."""


def report(course: "Course", stack: Stack, proxy: FaultyEndpoint, notes: Sequence[bytes]) -> int:
    """Print the report and return the exit status."""
    by_key = passes(notes, course.log.outcomes)
    print(f"\n{machine()}")
    _show_course(course, by_key, stack.dead_letters())
    _show_faults(course, proxy)
    grown = _show_memory(course, by_key)
    problems = _lost(course, stack) + _repeated(by_key) + grown
    if course.log.superseded:
        problems.append(f"{course.log.superseded} deliveries were superseded, although nothing was overwritten")
    if course.stuck:
        problems.append("no result for ten minutes: the run was ended")
    print()
    for problem in problems[:50]:
        print(f"WRONG: {problem}")
    print("No result lost, no inference repeated, no growing memory." if not problems else f"{len(problems)} problems.")
    return int(bool(problems))


def _lost(course: "Course", stack: Stack) -> list[str]:
    """Return the keys without exactly one result, or with a result that differs from the one without faults."""
    found = set(stack.results())
    wanted = {result_key_for(key, RESULTS_PREFIX): key for key in course.expected}
    problems = [f"no result for {wanted[result_key]}" for result_key in sorted(wanted.keys() - found)]
    problems += [f"a result without an upload: {result_key}" for result_key in sorted(found - wanted.keys())]
    for result_key in sorted(wanted.keys() & found):
        document: dict[str, Any] = json.loads(stack.result(result_key))
        key = wanted[result_key]
        wrong = differences(course.expected[key], document)
        if document["source"]["key"] != key:
            wrong.append("source")
        if wrong:
            problems.append(f"{key}: {', '.join(wrong)} differs from the run without faults ({document.get('error')})")
    return problems


def _repeated(by_key: dict[str, list[Pass]]) -> list[str]:
    return [f"inference was repeated for {key}: {of_key}" for key, of_key in by_key.items() if is_repeated(of_key)]


def _show_course(course: "Course", by_key: dict[str, list[Pass]], dead_letters: int) -> None:
    in_vain = [one for of_key in by_key.values() for one in of_key if not one.counts]
    killed = sum(one.outcome is None for one in in_vain)
    statuses = [document["status"] for document in course.expected.values()]
    rows = [
        ["recordings", f"{len(course.expected)}"],
        ["of which classified / no speech / failed", " / ".join(str(statuses.count(s)) for s in _STATUSES)],
        ["duplicate notifications", f"{course.duplicates}"],
        ["duplicate deliveries", f"{course.log.duplicates}"],
        ["workers killed", f"{course.kills}"],
        ["passes through the pipeline", f"{sum(map(len, by_key.values()))}"],
        ["of which ended by killing the worker", f"{killed}"],
        ["of which with a result that S3 did not confirm", f"{len(in_vain) - killed}"],
        ["recordings that needed a second pass", f"{sum(len(of_key) > 1 for of_key in by_key.values())}"],
        ["recordings without a pass: empty files", f"{len(course.expected) - len(by_key)}"],
        ["deliveries that were retried", f"{sum(course.log.retries.values())}"],
        ["dead letters moved back / left", f"{course.redriven} / {dead_letters}"],
        ["minutes", f"{course.elapsed_s / 60:.1f}"],
        ["recordings a second", f"{len(course.log.done_at_s) / course.elapsed_s:.2f}"],
        ["processor cores used by the workers", f"{course.workers_cpu_s / course.elapsed_s:.2f}"],
        [
            "processor cores used by moto, the proxy and this command (one process)",
            f"{course.stack_cpu_s / course.elapsed_s:.2f}",
        ],
        ["memory of that process, MB", f"{course.stack_memory_mb[0]:.0f} to {course.stack_memory_mb[-1]:.0f}"],
    ]
    show("The soak", ["", "value"], rows)
    latencies_s = [at_s - course.uploaded_at_s[key] for key, at_s in course.log.done_at_s.items()]
    show(
        "Latency",
        ["seconds", "50 %", "90 %", "95 %", "99 %", "maximum"],
        [
            ["from upload to result", *(f"{value:.1f}" for value in percentiles(latencies_s))],
            [
                "of which the successful delivery",
                *(f"{value / 1000:.1f}" for value in percentiles(course.log.service_ms)),
            ],
        ],
    )


_STATUSES = ("classified", "no_speech", "failed")


def _show_faults(course: "Course", proxy: FaultyEndpoint) -> None:
    rows = [[fault.value, str(count)] for fault, count in sorted(proxy.injected.items())]
    rows += [["worker killed", str(course.kills)], ["**of calls**", str(len(proxy.calls))]]
    show("Faults injected", ["", "times"], rows)
    show("Reasons for retries", ["", "times"], [[k, str(v)] for k, v in course.log.retries.most_common()])


def _show_memory(course: "Course", by_key: dict[str, list[Pass]]) -> list[str]:
    rows, problems = [], []
    for pid, samples in course.memory.items():
        ended_s = (one.ended_s for of_key in by_key.values() for one in of_key if one.pid == pid)
        change = growth(samples, sorted(at_s for at_s in ended_s if at_s is not None), WARM_AFTER)
        if change is None:
            continue
        figures = (change.first_mb, change.last_mb, change.last_mb - change.first_mb, change.highest_mb)
        megabytes = (f"{mb:.1f}" for mb in figures)
        rows.append([str(pid), str(change.recordings), *megabytes, f"{change.per_recording_kb:+.2f}"])
        if not change.flat:
            problems.append(f"the memory of worker {pid} grew by {change.per_recording_kb:.0f} kB for each recording")
    if not rows:
        print(f"\nMemory is not checked: every worker had too few recordings after its {WARM_AFTER}th.")
        return problems
    more = f"recordings after {WARM_AFTER}"
    header = ["worker", more, "MB at the start", "MB at the end", "change", "highest", "kB for each recording"]
    show("Memory of the workers with enough recordings", header, rows)
    return problems
