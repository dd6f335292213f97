"""Add the demo model and the samples to the wheel, as `core/demo_model` and `core/samples`; see core/paths.py.

pyproject.toml says everything else. A list of packages that setuptools finds cannot be extended there.
"""

from setuptools import find_packages, setup

DATA = {"core.demo_model": "models/demo/package", "core.samples": "samples"}

setup(packages=[*find_packages(include=["core*", "handlers*"]), *DATA], package_dir=DATA)
