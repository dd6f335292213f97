"""Code that runs in Lambda imports no developer package, and no two packages import each other."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

FORBIDDEN = {"torch", "transformers", "sklearn", "peft", "onnx", "moto", "typer", "rich"}
"""PyTorch takes four seconds to import; the image has none of these."""

DEVELOPERS = {
    *("core.cli", "core.evaluation", "core.export", "core.local", "core.training"),
    *("benchmarks", "tests", "tools"),
}
"""Packages of this project for developers, together with those modules of `core.checkpoints` that load networks."""

LIGHT_CHECKPOINT_MODULES = {"core.checkpoints", "core.checkpoints.files", "core.checkpoints.loading"}


def modules(*packages: str) -> list[str]:
    """Return the names of the modules in some packages of this project."""
    found = []
    for package in packages:
        path = ROOT.joinpath(*package.split("."))
        files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            parts = file.relative_to(ROOT).with_suffix("").parts
            found.append(".".join(part for part in parts if part != "__init__"))
    return sorted(found)


IN_LAMBDA = [
    *modules("core.audio", "core.model", "core.speakers", "core.pipeline", "core.benchmark", "core.delivery"),
    *("handlers.s3_upload", "handlers.batch_operations", "handlers.api.app"),
]

_CHECK = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    loaded = set(sys.argv[1].split(",")) & sys.modules.keys()
    if loaded:
        sys.exit(f"{name} loads {sorted(loaded)}")
"""


def test_a_new_interpreter_loads_no_developer_package() -> None:
    command = [sys.executable, "-c", _CHECK, ",".join(FORBIDDEN), *IN_LAMBDA]

    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120)

    assert done.returncode == 0, done.stderr


def test_no_module_of_the_function_imports_a_developer_package_at_its_top() -> None:
    for module in _closure(IN_LAMBDA):
        for name in _imports(module, with_functions=False):
            assert name.split(".")[0] not in FORBIDDEN, f"{module} imports {name}"
            assert not any(_is_within(name, package) for package in DEVELOPERS), f"{module} imports {name}"
            if _is_within(name, "core.checkpoints"):
                assert name in LIGHT_CHECKPOINT_MODULES, f"{module} imports {name}"


def test_the_model_does_not_import_checkpoints() -> None:
    for module in modules("core.model"):
        assert not any(_is_within(name, "core.checkpoints") for name in _imports(module, with_functions=True)), module


def test_no_two_packages_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for module in modules("core", "handlers", "tools", "tests", "benchmarks"):
        targets = graph.setdefault(_package(module), set())
        targets |= {_package(name) for name in _imports(module, with_functions=True)} - {_package(module)}

    circles = [package for package in graph if package in _reachable(graph, package)]

    assert not circles


def test_no_two_modules_import_each_other() -> None:
    own = set(modules("core", "handlers", "tools", "benchmarks"))
    faces = {module for module in own if ROOT.joinpath(*module.split(".")).is_dir()}
    graph = {
        module: set(_imports(module, with_functions=True, with_types=True)) & (own - faces) for module in own - faces
    }

    circles = [module for module in graph if module in _reachable(graph, module)]

    assert not circles


def _package(module: str) -> str:
    """Return the package of a module: `core.audio` for `core.audio.decode`, `core.results` for `core.results`."""
    return ".".join(module.split(".")[: 2 if module.startswith("core.") else 1])


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    pending = list(graph.get(start, ()))
    while pending:
        package = pending.pop()
        if package not in found:
            found.add(package)
            pending += graph.get(package, ())
    return found


def _closure(names: list[str]) -> set[str]:
    """Return the modules of this project that are loaded when some of them are imported."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        module = pending.pop()
        if module not in found and _file(module) is not None:
            found.add(module)
            pending += _imports(module, with_functions=False)
    return found


def _is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.exists()), None)


@cache
def _imports(module: str, *, with_functions: bool, with_types: bool = False) -> frozenset[str]:
    """Return the names of the modules that a module imports, directly or by importing a name from them."""
    file = _file(module)
    assert file is not None
    names = set()
    for node in _statements(ast.parse(file.read_text(encoding="utf-8")), with_functions, with_types):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if _file(name) else node.module for name in inner}
    return frozenset(names)


def _statements(tree: ast.AST, with_functions: bool, with_types: bool) -> Iterator[ast.AST]:
    """Yield the statements, and those in functions and in `if TYPE_CHECKING` if requested."""
    for node in ast.iter_child_nodes(tree):
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if is_for_types and not with_types:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not with_functions:
            continue
        yield node
        yield from _statements(node, with_functions, with_types)
