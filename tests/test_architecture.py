"""The house's rules, read off the source: who may import whom, what experiment files import, how long files are.

Each rule is a function of a file's text, so that it is also shown to fail on a small text that breaks it.
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = tuple(sorted(path.parent.name for path in (ROOT / "src").glob("*/__init__.py")))
MAX_SCRIPT_LINES, MAX_EXPERIMENT_LINES = 40, 80
LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric")


# ------------------------------------------------------------------------------------------------- what a text imports
class Import(NamedTuple):
    """One imported name: `from src.tasks import Task` is src.tasks.Task."""

    line: int
    name: str


def imports(text: str, package: str) -> list[Import]:
    """Return all imports, those in functions and under TYPE_CHECKING too, and `import_module("literal")`.

    Args:
        text: a module's source.
        package: dotted name of its package, against which relative imports are resolved.
    """
    found: list[Import] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [Import(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [Import(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                found.append(Import(node.lineno, str(node.args[0].value)))
    return sorted(found)


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


# ---------------------------------------------------------------------------------------------------------- the rules
def one_way(text: str, package: str) -> list[str]:
    """Return the imports that a module of `package` must not have."""
    barred = ["experiments", "scripts", "tests"]
    if within(package, ("src.models",)):
        barred += [*LIGHTNING, *(f"src.{room}" for room in ROOMS if room != "models")]
    if within(package, ("src.tasks",)):
        barred += ["src.datamodules"]
    if within(package, ("src.datamodules",)):
        barred += ["src.tasks", "src.models"]
    return [
        f"line {line}: {package} imports {name}" for line, name in imports(text, package) if within(name, (*barred,))
    ]


def rooms_only(text: str) -> list[str]:
    """Return the imports from src of an experiment file that are neither a room nor from src.experiment."""
    rooms = tuple(f"src.{room}" for room in ROOMS)
    return [
        f"line {line}: {name}: import the room, `from src import {' or '.join(ROOMS)}`"
        for line, name in imports(text, "experiments")
        if within(name, ("src",)) and name not in rooms and not within(name, ("src.experiment",))
    ]


def lines_of_code(text: str) -> int:
    """Return the number of lines that are neither blank, nor comment, nor docstring (of a field too)."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    docs = [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        documents = token.type == tokenize.STRING and any(first <= token.start < last for first, last in docs)
        if token.type not in skipped and not documents:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines)


def script_too_long(text: str) -> list[str]:
    """Return a complaint if a script has more lines than it may, all counted."""
    count = len(text.splitlines())
    return [f"{count} lines, at most {MAX_SCRIPT_LINES}"] if count > MAX_SCRIPT_LINES else []


def experiment_too_long(text: str) -> list[str]:
    """Return a complaint if an experiment file has more lines of code than it may."""
    count = lines_of_code(text)
    return [f"{count} lines of code, at most {MAX_EXPERIMENT_LINES}"] if count > MAX_EXPERIMENT_LINES else []


# ------------------------------------------------------------------------------------------------------- on the house
def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parts[:-1])


def named(paths: list[Path]) -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(paths)]


SOURCES = named([*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.pyi")])
SCRIPTS = named([*(ROOT / "scripts").glob("*.py")])
EXPERIMENTS = named([p for p in (ROOT / "experiments").glob("*.py") if not p.name.startswith(("zz_", "bad_"))])


def test_the_rooms_are_there() -> None:
    assert {"callbacks", "datamodules", "models", "tasks"} <= set(ROOMS)
    assert len(SOURCES) > 20
    assert SCRIPTS
    assert len(EXPERIMENTS) > 1


@pytest.mark.parametrize("path", SOURCES)
def test_imports_go_one_way(path: Path) -> None:
    assert one_way(path.read_text(), package_of(path)) == []


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_experiments_import_rooms(path: Path) -> None:
    assert rooms_only(path.read_text()) == []


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_experiments_are_short(path: Path) -> None:
    assert experiment_too_long(path.read_text()) == []


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_are_short(path: Path) -> None:
    assert script_too_long(path.read_text()) == []


# ---------------------------------------------------------------------------------------------- each rule can fail
@pytest.mark.parametrize(
    ("package", "text"),
    [
        ("src.models", "import lightning"),
        ("src.models", "import lightning.pytorch as pl"),
        ("src.models", "from lightning.pytorch import LightningModule"),
        ("src.models", "import torch, lightning"),
        ("src.models", "from src import tasks"),
        ("src.models", "from src.datamodules import Found"),
        ("src.models", "from src.callbacks.checkpoints import Checkpoints"),
        ("src.models", "from .. import datamodules"),
        ("src.models", "from ..tasks import Task"),
        ("src.models.vision", "from ...tasks import Task"),
        ("src.models", "def build():\n    from src.tasks import Task"),
        ("src.models", "if TYPE_CHECKING:\n    from src.tasks import Task"),
        ("src.models", "import importlib\nimportlib.import_module('src.tasks')"),
        ("src.tasks", "from src.datamodules import DataModule"),
        ("src.tasks", "from src import models, datamodules"),
        ("src.tasks", "import src.datamodules.base"),
        ("src.datamodules", "from src.tasks.base import Task"),
        ("src.datamodules", "from src import models"),
        ("src", "import experiments"),
        ("src", "from experiments.images import Images"),
        ("src", "from scripts import run"),
        ("src.callbacks", "from scripts.run import main"),
        ("src", "__import__('experiments.images')"),
    ],
)
def test_an_import_the_wrong_way_is_found(package: str, text: str) -> None:
    assert len(one_way(text, package)) == 1
    assert f"line {text.count(chr(10)) + 1}: {package} imports" in one_way(text, package)[0]


@pytest.mark.parametrize(
    ("package", "text"),
    [
        ("src.models", "import torch\nfrom src.experiment import InputError\nfrom src.models.head import Head"),
        ("src.models", "from . import head\nfrom .head import Head\nfrom ..network import reachable"),
        ("src.models", "import lightning_utilities"),
        ("src.tasks", "from src import models\nfrom lightning.pytorch import LightningModule"),
        ("src.datamodules", "from src import records\nfrom .base import DataModule"),
        ("src", "from src.tasks import Task\nfrom src.datamodules import DataModule"),
        ("src", "# from experiments import images\nexperiments = scripts = 1"),
    ],
)
def test_an_import_the_right_way_is_let_through(package: str, text: str) -> None:
    assert one_way(text, package) == []


@pytest.mark.parametrize(
    "text",
    [
        "from src.tasks import ImageClassification",
        "from src.tasks.classification import ImageClassification",
        "import src.tasks.classification",
        "from src.models import CNN as Net",
        "from src import runner",
        "import src",
        "from src import *",
        "def task():\n    from src.models import CNN",
    ],
)
def test_an_experiment_that_imports_a_class_is_found(text: str) -> None:
    assert len(rooms_only(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "from src import tasks",
        "from src import datamodules, models, tasks",
        "from src import models as nets",
        "from src.experiment import Experiment, Optim",
        "from experiments.images import Images",
        "from experiments import images",
        "from .images import Images",
        "from typing import ClassVar\nimport math",
    ],
)
def test_an_experiment_that_imports_rooms_is_let_through(text: str) -> None:
    assert rooms_only(text) == []


DOCUMENTED = '''"""Module.

More.
"""

import math  # a comment beside code

# a comment alone


class Mine(Base):
    """Class."""

    rate: float = (
        1.0
    )
    """Field,
    on two lines."""
    text = """two
    lines"""

    def method(self):
        """Method."""
        return "a string"
'''


def test_lines_of_code() -> None:
    assert lines_of_code(DOCUMENTED) == 9
    assert lines_of_code("") == lines_of_code('"""Only."""\n\n# this\n') == 0
    assert lines_of_code("x = 1; 'x'") == 1


def test_a_long_script_is_found() -> None:
    assert script_too_long("\n" * MAX_SCRIPT_LINES) == []
    assert script_too_long("\n" * (MAX_SCRIPT_LINES + 1)) == ["41 lines, at most 40"]


def test_a_long_experiment_is_found() -> None:
    most = '"""Title."""\n\n# why\n' + "x = 1\n" * MAX_EXPERIMENT_LINES
    assert experiment_too_long(most) == []
    assert experiment_too_long(f"{most}y = 2\n") == ["81 lines of code, at most 80"]
