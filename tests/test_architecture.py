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
MAX_SOURCE_LINES, MAX_SCRIPT_LINES, MAX_EXPERIMENT_LINES = 300, 40, 80
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
LAYERS = (
    ("src.configs", "src.terminal"),
    ("src.answers",),
    ("src.experiment", "src.loading"),
    ("src.resources",),
    (
        "src.runs.records",
        "src.runs.state",
        "src.runs.launched",
        "src.runs.metrics_csv",
        "src.runs.tensorboard",
        "src.runs.predictions",
        "src.runs.exports",
    ),
    ("src.datamodules", "src.models"),
    ("src.tasks",),
    ("src.callbacks",),
    ("src.runs.summary",),
    ("src.training",),
    ("src.inference",),
    ("src.studies", "src.data_checks", "src.deploy", "src.explain", "src.runs.compare"),
    ("src.launch",),
    ("src.cli",),
    ("src.loaded",),
    ("src.api",),
)
"""The order of the packages: a module imports only what stands in its own line or above. Data modules and models, which
share a line, never import each other."""
BUILT_BY_EXPERIMENTS = ("src.datamodules.DataModule", "src.tasks")
"""What the methods of `src.experiment` build stands above it: imported for types, and when a method is called."""
OUTSIDE = ("experiments", "scripts", "tests", "leyden")


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a module is in; None where it is in none, as `src` itself."""
    return next((number for number, layer in enumerate(LAYERS) if within(name, layer)), None)


def one_way(text: str, module: str) -> list[str]:
    """Return the imports that a module must not have.

    Args:
        text: its source.
        module: its dotted name.
    """
    barred = [*OUTSIDE]
    if within(module, ("src.models",)):
        barred += [*LIGHTNING, "src.datamodules"]
    if within(module, ("src.datamodules",)):
        barred += ["src.models"]
    own = layer_of(module)
    found: list[str] = []
    for line, name in imports(text, module.rpartition(".")[0]):
        built = module == "src.experiment" and within(name, BUILT_BY_EXPERIMENTS)
        layer = None if built else layer_of(name)
        if within(name, (*barred,)) or (own is not None and layer is not None and layer > own):
            found.append(f"line {line}: {module} imports {name}")
    return found


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


def too_long(text: str, most: int) -> list[str]:
    """Return a complaint if a file has more lines than it may, all counted."""
    count = len(text.splitlines())
    return [f"{count} lines, at most {most}"] if count > most else []


def experiment_too_long(text: str) -> list[str]:
    """Return a complaint if an experiment file has more lines of code than it may."""
    count = lines_of_code(text)
    return [f"{count} lines of code, at most {MAX_EXPERIMENT_LINES}"] if count > MAX_EXPERIMENT_LINES else []


# ------------------------------------------------------------------------------------------------------- on the house
def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def named(paths: list[Path]) -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(paths)]


SOURCES = named([*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.pyi")])
SCRIPTS = named([*(ROOT / "scripts").glob("*.py")])
EXPERIMENTS = named([p for p in (ROOT / "experiments").rglob("*.py") if not p.name.startswith(("zz_", "bad_"))])


def test_the_rooms_are_there() -> None:
    assert {"callbacks", "configs", "datamodules", "models", "tasks", "training"} <= set(ROOMS)
    assert len(SOURCES) > 20
    assert SCRIPTS
    assert len(EXPERIMENTS) > 1


@pytest.mark.parametrize("path", SOURCES)
def test_imports_go_one_way(path: Path) -> None:
    assert one_way(path.read_text(encoding="utf-8"), module_of(path)) == []


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_experiments_import_rooms(path: Path) -> None:
    assert rooms_only(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_experiments_are_short(path: Path) -> None:
    assert experiment_too_long(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_are_short(path: Path) -> None:
    assert too_long(path.read_text(encoding="utf-8"), MAX_SCRIPT_LINES) == []


@pytest.mark.parametrize("path", SOURCES)
def test_sources_are_short(path: Path) -> None:
    assert too_long(path.read_text(encoding="utf-8"), MAX_SOURCE_LINES) == []


# ---------------------------------------------------------------------------------------------- each rule can fail
@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("src.models.x", "import lightning"),
        ("src.models.x", "import lightning.pytorch as pl"),
        ("src.models.x", "from lightning.pytorch import LightningModule"),
        ("src.models.x", "import torch, lightning"),
        ("src.models.x", "from src import tasks"),
        ("src.models.x", "from src.datamodules import LoadedSplits"),
        ("src.models.x", "from src.callbacks.checkpoints import Checkpoints"),
        ("src.models.x", "from .. import datamodules"),
        ("src.models.x", "from ..tasks import Task"),
        ("src.models.vision.x", "from ...tasks import Task"),
        ("src.models.x", "def build():\n    from src.tasks import Task"),
        ("src.models.x", "if TYPE_CHECKING:\n    from src.tasks import Task"),
        ("src.models.x", "import importlib\nimportlib.import_module('src.tasks')"),
        ("src.configs.x", "from src.experiment import Experiment"),
        ("src.tasks.x", "from src.callbacks import Evaluation"),
        ("src.callbacks.x", "from src.training.trainer import build_trainer"),
        ("src.training.x", "from src.studies.ensemble import ensemble"),
        ("src.runs.records", "from src.runs.compare.table import show"),
        ("src.studies.x", "from src.cli import commands"),
        ("src.datamodules.x", "from src.tasks.base import Task"),
        ("src.datamodules.x", "from src import models"),
        ("src.x", "import experiments"),
        ("src.x", "from experiments.images import Images"),
        ("src.x", "from scripts import run"),
        ("src.callbacks.x", "from scripts.run import main"),
        ("src.x", "__import__('experiments.images')"),
    ],
)
def test_an_import_the_wrong_way_is_found(module: str, text: str) -> None:
    assert len(one_way(text, module)) == 1
    assert f"line {text.count(chr(10)) + 1}: {module} imports" in one_way(text, module)[0]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("src.models.x", "import torch\nfrom src.experiment import InputError\nfrom src.models.heads import Head"),
        ("src.models.x", "from . import head\nfrom .head import Head\nfrom ..resources.network import reachable"),
        ("src.models.x", "import lightning_utilities"),
        ("src.tasks.x", "from src import models\nfrom lightning.pytorch import LightningModule"),
        ("src.datamodules.x", "from src.runs import records\nfrom .base import DataModule"),
        ("src.x", "from src.tasks import Task\nfrom src.datamodules import DataModule"),
        ("src.x", "# from experiments import images\nexperiments = scripts = 1"),
    ],
)
def test_an_import_the_right_way_is_let_through(module: str, text: str) -> None:
    assert one_way(text, module) == []


@pytest.mark.parametrize(
    "text",
    [
        "from src.tasks import ImageClassification",
        "from src.tasks.classification import ImageClassification",
        "import src.tasks.classification",
        "from src.models import CNN as Net",
        "from src.training import runner",
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


@pytest.mark.parametrize("most", [MAX_SOURCE_LINES, MAX_SCRIPT_LINES])
def test_a_long_file_is_found(most: int) -> None:
    assert too_long("\n" * most, most) == []
    assert too_long("# a comment\n" * (most + 1), most) == [f"{most + 1} lines, at most {most}"]


def test_a_long_experiment_is_found() -> None:
    most = '"""Title."""\n\n# why\n' + "x = 1\n" * MAX_EXPERIMENT_LINES
    assert experiment_too_long(most) == []
    assert experiment_too_long(f"{most}y = 2\n") == ["81 lines of code, at most 80"]
