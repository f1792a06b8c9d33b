"""README.md and CONTRIBUTING.md hold what they say: each command runs, each experiment in them trains.

Run are the lines `python scripts/...` of fenced bash blocks, with flags for tiny data appended, unless an HTML comment
`<!-- not run: why -->` stands directly above the block. A fenced python block with an experiment becomes a file in
experiments/ for as long as the tests last: the one that the block or the line above it names, else one of its own.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Script, Tiny, own_home

from src import cli
from src.cli.commands import run_all
from src.deploy.export import export
from src.experiment import Experiment
from src.loading import load
from src.runs import records
from src.training import runner

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"(?:^(?P<above>[^\n]+)\n+)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
RUN = re.compile(r"runs/\w+/[<*\w.>-]+")
NO_TRAINING = ("--help", "--dry-run", "--resume")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it starts, its language, and the line above it."""

    place: str
    kind: str
    above: str
    text: str


def blocks() -> list[Block]:
    found: list[Block] = []
    for name in ("README.md", "CONTRIBUTING.md"):
        path = ROOT / name
        text = path.read_text() if path.exists() else ""
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start("kind")) + 1
            found.append(Block(f"{name}:{line}", match["kind"], match["above"] or "", match["text"]))
    return found


def commands() -> list[str]:
    """Return each `python scripts/...` line once, without its comment."""
    found: list[str] = []
    for block in blocks():
        if block.kind == "bash" and "<!-- not run:" not in block.above:
            lines = block.text.replace("\\\n", " ").splitlines()
            found += [line.partition(" #")[0].strip() for line in lines if line.startswith("python scripts/")]
    return list(dict.fromkeys(found))


def programs() -> list[Block]:
    """Return the python blocks that run as they stand."""
    return [block for block in blocks() if block.kind == "python" and block.text.startswith("import leyden\n")]


def definitions() -> list[Block]:
    """Return the python blocks that define an experiment."""
    return [
        block
        for block in blocks()
        if block.kind == "python" and "class " in block.text and re.search(r"^from (experiments|src)", block.text, re.M)
    ]


@pytest.fixture(scope="module", autouse=True)
def files() -> Iterator[dict[str, Path]]:
    """Write each definition into experiments/ and remove it at the end: place -> file."""
    written: dict[str, Path] = {}
    try:
        for block in definitions():
            named = re.search(r"experiments/(\w+)\.py", block.text) or re.search(r"experiments/(\w+)\.py", block.above)
            stem = named[1] if named else f"readme_{uuid.uuid4().hex}"
            path = ROOT / "experiments" / f"{stem}.py"
            if path.exists():
                path = path.with_stem(f"readme_{uuid.uuid4().hex}")
            path.write_text(block.text)
            written[block.place] = path
        importlib.invalidate_caches()
        yield written
    finally:
        for path in written.values():
            path.unlink()
            sys.modules.pop(f"experiments.{path.stem}", None)


def flags_for(kinds: list[type[Experiment]], tiny: Tiny) -> dict[str, str]:
    """Return the flags that make these experiments small, as far as all of them agree."""
    wanted = [tiny(kind) | {"max_epochs": 1, "limit_train_batches": 2} for kind in kinds]
    shared = {name: value for name, value in wanted[0].items() if all(other.get(name) == value for other in wanted)}
    return {f"--{name.replace('_', '-')}": str(value) for name, value in shared.items()}


@pytest.fixture(scope="module")
def finished(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run on images, one on texts and one on a table, for the commands that need one."""
    from experiments.images import Images
    from experiments.tables import TableRegression
    from experiments.texts import TextsLstm

    home = tmp_path_factory.mktemp("readme")
    with own_home(home):
        found = {
            kind.__name__: runner.run(kind(max_epochs=1, **tiny(kind))) for kind in (Images, TextsLstm, TableRegression)
        }
        export(found["Images"])
        return found


def checks(script: str, arguments: list[str], tiny: Tiny, out: Path) -> list[str]:
    """Return the arguments of a check on tiny data, its files in a place of their own."""
    kind = load(arguments[0])
    flags = {name: value for name, value in tiny(kind).items() if value is not None}
    for name in ("--list", "--json"):
        if name in arguments:
            arguments[arguments.index(name) + 1] = str(out / arguments[arguments.index(name) + 1])
    return [
        script,
        *arguments,
        *(word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))),
    ]


def prepared(command: str, places: dict[str, Path], tiny: Tiny, out: Path) -> list[str]:
    """Return a command's script and arguments: placeholders filled in, flags for tiny data in place."""
    kinds_of = {r"runs/(Imdb|Texts)": "TextsLstm", r"runs/(House|Table)": "TableRegression"}
    run = places[next((name for prefix, name in kinds_of.items() if re.search(prefix, command)), "Images")]
    _, script, *words = shlex.split(RUN.sub(str(run), command))
    arguments = [path for word in words for path in expanded(word)]
    if "--out" in arguments:
        arguments[arguments.index("--out") + 1] = str(out / "out.csv")
    if Path(script).name == "compare.py":
        if "--html" in arguments:
            arguments[arguments.index("--html") + 1] = str(out / "report.html")
        return [script, *(str(out / "given") if argument == "runs" else argument for argument in arguments)]
    if Path(script).name == "export.py":
        return [script, *arguments]
    if Path(script).name == "predict.py":
        return [script, *(str(places.get(argument, argument)) for argument in arguments)]
    if Path(script).name == "check_data.py":
        return checks(script, arguments, tiny, out)
    targets = [argument for argument in arguments if re.match(r"experiments/\w+\.py", argument)]
    kinds = [load(target) for target in targets if not target.endswith("__init__.py")]
    flags = flags_for(kinds, tiny) if kinds and "--help" not in arguments else {}
    if Path(script).name == "ablate.py":
        arguments = [argument for argument in arguments if argument not in ("1", "2")]  # one seed
    if Path(script).name == "search.py":
        arguments[arguments.index("--trials") + 1] = "2"
        arguments.append("--no-confirm")
    if "--text-column" in arguments:
        flags["--data-dir"] = str(places["my_tickets.csv"])
    for flag, value in flags.items():
        if flag in arguments:
            arguments[arguments.index(flag) + 1] = value
        else:
            arguments += [flag, value]
    return [script, *arguments]


def expanded(word: str) -> list[str]:
    """Return what a shell makes of `experiments/*.py`, without the files that other tests may have left there."""
    if word == "experiments/*.py":
        return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(word))
    return [word]


def test_there_is_something_to_check() -> None:
    assert len(commands()) >= 5, commands()
    assert programs(), "what `import leyden` gives"
    assert len(definitions()) >= 2, "a first experiment, and one with a task or data of the user's own"


@pytest.mark.parametrize("command", commands())
def test_command(
    script: Script,
    command: str,
    images: Path,
    texts: Path,
    houses: Path,
    tiny: Tiny,
    finished: dict[str, Path],
    tmp_path: Path,
) -> None:
    given = {name: shutil.copytree(run, tmp_path / "given" / name / run.name) for name, run in finished.items()}
    (tmp_path / "tickets.csv").write_text(texts.read_text(encoding="utf-8").replace("text,label", "body,team"))
    places = given | {
        "photo.jpg": images / "val/cat/0000.jpg",
        "folder/": images / "val",
        "reviews.csv": texts,
        "my_tickets.csv": tmp_path / "tickets.csv",
        "new_houses.csv": houses,
    }
    name, *arguments = prepared(command, places, tiny, tmp_path)
    done = script(Path(name).name, *arguments, fresh=command == commands()[0])
    assert done.returncode == 0, f"{name} {arguments}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    if Path(name).name == "run.py" and not set(NO_TRAINING) & set(arguments) and arguments:
        states = [records.load(path.parent)["state"] for path in tmp_path.glob("runs/*/*/run.json")]
        assert states
        assert set(states) == {"done"}


@pytest.mark.parametrize("block", programs(), ids=lambda block: block.place)
def test_program(block: Block, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("LEYDEN_RUNS")
    arguments = [sys.executable, "-W", "error", "-c", block.text]
    done = subprocess.run(
        arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len([*tmp_path.glob("runs/DigitsCNN/*/run.json")]) == 1


@pytest.mark.parametrize("block", definitions(), ids=lambda block: block.place)
def test_definition(
    block: Block, files: dict[str, Path], tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(ROOT)
    target = str(files[block.place].relative_to(ROOT))
    module = importlib.import_module(f"experiments.{files[block.place].stem}")
    kinds = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Experiment) and kind.__module__ == module.__name__
    ]
    assert kinds, "defines an experiment"
    if not hasattr(module, "DEFAULT"):
        target = f"{target}:{kinds[-1].__name__}"
    with pytest.raises(SystemExit) as stop:
        cli.parse([target, "--help"])
    assert stop.value.code == 0
    assert "--max-epochs" in capsys.readouterr().out
    flags = [word for pair in flags_for([load(target)], tiny).items() for word in pair]
    command = cli.parse([target, *flags])
    assert run_all(command.experiments, command.flags) == 0, capsys.readouterr().err
    (path,) = records.runs_dir().glob("*/*/run.json")
    record = records.load(path.parent)
    assert (record["state"], record["steps"]) == ("done", 2)
