"""The README's Python example runs unchanged."""

import re
import subprocess
import sys

from tests.conftest import ROOT


def test_the_python_example_of_the_readme_prints_utterances_of_the_sample() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)

    done = subprocess.run(
        [sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )

    # The sample has two neutral utterances, then five angry ones.
    assert re.findall(r"\b(?:neutral|anger)\b", done.stdout) == ["neutral"] * 2 + ["anger"] * 5
