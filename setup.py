"""Add the demo model and the samples to the wheel, as `core/demo_model` and `core/samples`; see core/paths.py.

pyproject.toml says everything else. A list of packages that setuptools finds cannot be extended there.
"""

import shutil

from setuptools import find_packages, setup

DATA = {"core.demo_model": "models/demo/package", "core.samples": "samples"}

# setuptools would add every file that an earlier build left there.
shutil.rmtree("build/lib", ignore_errors=True)

setup(packages=[*find_packages(include=["core*", "handlers*"]), *DATA], package_dir=DATA)
