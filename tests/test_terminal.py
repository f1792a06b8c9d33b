"""What a terminal shows: lines above the bar and at its width, no codes of others, and plain lines in a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import runpy
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from lightning.pytorch import Callback
from made_runs import make_seeds
from PIL import Image
from rich.cells import cell_len
from sklearn.datasets import load_digits
from torch import nn

from src.callbacks import TerminalBar
from src.datamodules import Plain
from src.experiment import ClassificationExperiment, DataSpec, Experiment, Optim
from src.runs import records
from src.tasks import Task
from src.tasks.inputs import PlainInput
from src.terminal import console, streams
from src.training import runner

BAR = re.compile(r"[━╸╺█]|it/s|batches")
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HOSTILE = "\x1b[31mred\x1b]0;title\x07 \u202egpj"
SHOWN = r"\x1b[31mred\x1b]0;title\x07 \u202egpj"


class Screen:
    """A terminal, as far as it is used here: lines that are written over, erased, and scrolled up."""

    def __init__(self) -> None:
        self.lines, self.row, self.column = [""], 0, 0
        self.mixed: list[str] = []
        """Lines that at any time had a part of the bar and of something else that is printed."""

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|[\r\n]|[^\r\n\x1b]+", text):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self._look()
                self.row += 1
                self.lines += [""] * (self.row == len(self.lines))
            elif part.endswith("A") and part.startswith("\x1b"):
                self.row -= int(part[2:-1] or 1)
            elif part.startswith("\x1b"):
                self.lines[self.row] = "" if part == "\x1b[2K" else self.lines[self.row]
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
                self.column += len(part)
        self._look()

    def _look(self) -> None:
        line = self.lines[self.row]
        if BAR.search(line) and re.search(r"train/|val/|samples/s|note|warns", line):
            self.mixed.append(line)


def shown(text: str) -> Screen:
    screen = Screen()
    screen.feed(text)
    return screen


class Tty(io.StringIO):
    """A terminal that keeps all it gets."""

    def isatty(self) -> bool:
        return True


Terminal = Callable[..., Tty]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Return a function that makes standard output a terminal of so many columns."""

    def make(columns: int = 80, **environment: str) -> Tty:
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), **environment}.items():
            monkeypatch.setenv(name, value)
        made = Tty()
        monkeypatch.setattr(sys, "stdout", made)
        monkeypatch.setattr(sys, "stderr", made)
        console._console.cache_clear()
        return made

    yield make
    console._console.cache_clear()


# ------------------------------------------------------------------------------------------------------ a real terminal
def in_pty(command: list[str], columns: int, runs: str) -> tuple[int, str]:
    """Return a command's exit code, and all that it wrote to a terminal of so many columns."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    plain |= {"TERM": "xterm-256color", "LEYDEN_RUNS": runs}
    process = subprocess.Popen(command, cwd=ROOT, env=plain, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    written = b""
    with contextlib.suppress(OSError):  # EIO, once the other end is closed
        while part := os.read(outer, 1 << 16):
            written += part
    os.close(outer)
    return process.wait(60), written.decode()


def test_in_a_real_terminal_bar_and_lines_are_apart() -> None:
    run = [sys.executable, "scripts/run.py", "experiments/digits.py:SoftmaxRegression", "--source", "sklearn"]
    with tempfile.TemporaryDirectory() as runs:  # a short path
        code, written = in_pty([*run, "--max-epochs", "3"], 80, runs)
    assert code == 0, written
    assert BAR.search(written), "the premise: there was a bar"
    screen = shown(written)
    assert screen.mixed == []
    assert not any(BAR.search(line) for line in screen.lines), "nothing of it stays"
    epochs = [line for line in screen.lines if line.startswith("epoch")]
    assert [line.split()[1] for line in epochs] == ["1/3", "2/3", "3/3"]
    assert all(re.match(r"epoch \d/3  train/loss [\d.]+  train/acc [\d.]+  val/loss [\d.]+", line) for line in epochs)
    assert max(cell_len(line) for line in screen.lines) <= 80
    labels = {line[:10].strip() for line in screen.lines if not line.startswith(("SoftmaxRegression", "epoch"))}
    on_a_slow_machine = {"expected", "NOTE"}
    before = {"data", "STAND-IN", "model", "weights", "recipe", "device", "run"}
    assert labels - on_a_slow_machine == {"", *before, "best", "val", "calibrated", "time", "next"}
    assert "\x1b[36mdata\x1b[0m" in written, "coloured"
    assert written.rstrip().endswith("--test"), "commands come last"
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l"), "the cursor is there again"


# --------------------------------------------------------------------------------------------------------------- a bar
class Talks(Callback):
    """Prints to both streams while the bar is drawn."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            print("a note in two ", end="")
            print(f"parts, [red]{HOSTILE}", flush=True)
            print("warns of it", file=sys.stderr)


class Fails(Talks):
    """Breaks in its second epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch:
            raise RuntimeError("breaks")


class Small(ClassificationExperiment):
    """A few digits, validated twice an epoch, whose callback talks."""

    max_epochs = 2
    validations = 2
    optim: Optim = Optim(lr=3e-2)
    """Optimiser and schedule."""

    def datamodule(self) -> Plain:
        pixels, digits = map(torch.from_numpy, load_digits(return_X_y=True))
        splits = [(pixels[part].float() / 16, digits[part]) for part in (slice(400), slice(400, 500))]
        return Plain(*splits, batch_size=32, seed=self.seed)

    def task(self, spec: DataSpec) -> Task:
        return Task(nn.Linear(64, 10), self.objective(spec), PlainInput(), self.optim)

    def callbacks(self) -> list[Callback]:
        return [Talks()]


class Breaking(Small):
    """The same, and fails."""

    def callbacks(self) -> list[Callback]:
        return [Fails()]


@pytest.mark.usefixtures("quiet")
def test_whatever_is_printed_goes_above_the_bar(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.callbacks.terminal_bar.EVERY", 0.0)
    out = terminal(100)
    runner.run(Small())
    screen = shown(out.getvalue())
    assert screen.mixed == []
    assert [line.split()[0] for line in screen.lines if "val/loss" in line].count("step") == 2
    notes = [line for line in screen.lines if line.startswith("a note")]
    assert notes == [f"a note in two parts, [red]{SHOWN}"] * 2
    assert any("warns of it" in line for line in screen.lines)
    assert "validation" in out.getvalue()
    assert not any(BAR.search(line) for line in screen.lines)
    assert sys.stdout is out, "as before"


@pytest.mark.usefixtures("quiet")
def test_a_run_that_fails_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    out = terminal()
    with pytest.raises(RuntimeError, match="breaks"):
        runner.run(Breaking())
    assert (sys.stdout, sys.stderr) == (out, out)
    assert not BAR.search(shown(out.getvalue()).lines[-2])
    assert out.getvalue().rfind("\x1b[?25h") > out.getvalue().rfind("\x1b[?25l")


def bars(experiment: Experiment) -> list[Callback]:
    from src.training.trainer import build_callbacks

    record = records.Record(records.create(type(experiment).__name__))
    return [one for one in build_callbacks(experiment, record) if isinstance(one, TerminalBar)]


def test_only_a_terminal_has_a_bar(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    assert bars(Small()) == []
    terminal()
    assert len(bars(Small())) == 1
    terminal(TERM="dumb")
    assert bars(Small()) == []


# --------------------------------------------------------------------------------------------------------------- lines
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_lines_are_as_wide_as_the_terminal(columns: int, terminal: Terminal) -> None:
    out = terminal(columns)
    texts = [
        "scikit-learn's 8x8 digits (NOT mnist); splits by class, val 15%, test 15%, seed 0, and more of it all",
        "train   1259  (0 124, 1 128, 2 123, 3 129, 4 127, 5 128, 6 127, 7 125, 8 121, 9 128)",
        "文字" * 70,
        "/a/path/" + "x" * 150,
    ]
    for text in texts:
        console.line("data", text)
    lines = CODES.sub("", out.getvalue()).splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert sum(line.startswith("data       ") for line in lines) == len(texts)
    assert all(line.startswith(("data       ", " " * 11)) for line in lines), "the rest stands below the text"
    assert re.sub(r"\s+", "", "".join(line[11:] for line in lines)) == re.sub(r"\s+", "", "".join(texts))


def test_a_name_and_its_value_stay_together(terminal: Terminal) -> None:
    out = terminal(60)
    console.line(
        "epoch 1/4", "train/loss 0.6931  train/acc 0.5000  val/loss 0.6900  val/acc 0.5000   1.2 s, 345 samples/s"
    )
    assert CODES.sub("", out.getvalue()).splitlines() == [
        "epoch 1/4  train/loss 0.6931  train/acc 0.5000",
        "           val/loss 0.6900  val/acc 0.5000",
        "           1.2 s, 345 samples/s",
    ]


def test_a_broken_command_can_be_copied(terminal: Terminal, tmp_path: Path) -> None:
    out = terminal(60)
    folder = tmp_path / "a folder"
    words = ["printf", "%s,", f"'{folder}'", *(f"word-{number}" for number in range(9))]
    console.command("next", " ".join(words))
    lines = CODES.sub("", out.getvalue()).splitlines()
    assert len(lines) > 2
    copied = "\n".join(line[11:] for line in lines)
    said = subprocess.run(["sh", "-c", copied], capture_output=True, text=True, check=True).stdout
    assert said == ",".join([str(folder), *(f"word-{number}" for number in range(9))]) + ","


def test_a_wide_table_is_turned(terminal: Terminal) -> None:
    rows = [["", *(f"test/metric_{number}" for number in range(8))]]
    rows += [[name, *(f"0.{number}" for number in range(8))] for name in ("Own", "gradient boosting")]
    out = terminal(80)
    console.table(rows)
    lines = CODES.sub("", out.getvalue()).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert lines[0].split() == ["Own", "gradient", "boosting"]
    assert lines[2].split() == ["test/metric_0", "0.0", "0.0"]
    assert all(line.startswith(" " * 11) for line in lines)


def test_in_a_pipe_lines_are_plain_and_as_long_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.title("Small, seed 0")
    console.line("data", "x" * 300)
    console.line("", "train  [red]1[/red]")
    console.command("next", "python scripts/predict.py " + "y" * 200)
    console.table([["", "recall", "f1"], ["cat", "1.0000", "0.5"]])
    assert capsys.readouterr().out.splitlines() == [
        "Small, seed 0",
        "data       " + "x" * 300,
        "           train  [red]1[/red]",
        "next       python scripts/predict.py " + "y" * 200,
        "                recall  f1",
        "           cat  1.0000  0.5",
    ]


@pytest.mark.parametrize("way", ["variable", "flag"])
def test_no_colours(way: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    out = terminal(**({"NO_COLOR": "1"} if way == "variable" else {}))
    if way == "flag":
        monkeypatch.setenv("NO_COLOR", "")  # so that it is as before afterwards
        streams.choose_colours(["experiments/digits.py", "--no-color"])
    console.line("STAND-IN", "val/acc 0.5")
    console.table([["", "a"], ["b", "1"]])
    assert "STAND-IN" in out.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*[34][0-7]m", out.getvalue())


@pytest.mark.parametrize("script", ["run.py", "check_data.py", "predict.py", "compare.py"])
def test_each_script_knows_the_flag(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "")  # so that it is as before afterwards
    first = ["experiments/digits.py"] if script in ("run.py", "check_data.py") else []
    code, shown = called(monkeypatch, capsys, script, *first, "--help", "--no-color")
    assert code == 0
    assert "--no-color" in shown
    assert os.environ["NO_COLOR"] == "1"


# ------------------------------------------------------------------------------------------------------ codes of others
def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str, *args: str | Path
) -> tuple[int, str]:
    """Run a script in this process; return its exit code and all that it printed."""
    with monkeypatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", [f"scripts/{script}", *map(str, args)])
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, getattr(sys, name))  # which the script wraps
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(f"scripts/{script}", run_name="__main__")
    found = capsys.readouterr()
    return int(stop.value.code or 0), found.out + found.err


def harmless(text: str) -> bool:
    return streams.CONTROL.search(text) is None


@pytest.mark.usefixtures("quiet")
def test_a_folder_gives_no_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = HOSTILE.replace("/", "")
    for split in ("train", "val"):
        for kind in (name, "blue"):
            folder = tmp_path / "data\x1b[2J" / split / kind
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (8, 8), (number * 9, 0, 40 * (kind == name))).save(folder / f"{number}\x9b31m.png")
    (tmp_path / "data\x1b[2J" / "train" / name / "broken\x1b[5m.png").write_text("no image")
    flags = (
        "--data-dir",
        tmp_path / "data\x1b[2J",
        "--weights",
        "none",
        "--backbone",
        "test_resnet",
        "--image-size",
        "32",
    )
    for script, more in (("run.py", ["--dry-run"]), ("check_data.py", [])):
        _, shown = called(monkeypatch, capsys, script, "experiments/images.py", *flags, *more)
        assert harmless(shown)
        assert SHOWN in shown
        assert r"data\x1b[2J" in shown
    code, shown = called(monkeypatch, capsys, "run.py", "experiments/images.py", "--data-dir", "\x1b[31mno\u202ewhere")
    assert code == 2
    assert harmless(shown)
    assert r"\x1b[31mno\u202ewhere" in shown


@pytest.mark.usefixtures("quiet")
def test_a_cell_gives_no_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: Terminal
) -> None:
    rows = [f"{number},{'[red]' + HOSTILE if number % 2 else 'blue'}" for number in range(60)]
    cells = tmp_path / "cells\x1b[31mred.csv"
    cells.write_text("\n".join(["x\x1b[1m,kind", *rows]) + "\n", encoding="utf-8")
    flags = ("experiments/tables.py:TableClassification", "--data-dir", cells, "--target", "kind")
    _, shown = called(monkeypatch, capsys, "run.py", *flags, "--max-epochs", "1")
    assert harmless(shown)
    assert f"[red]{SHOWN}" in shown
    (record,) = records.runs_dir().glob("*/*/run.json")
    _, predictions = called(monkeypatch, capsys, "predict.py", record.parent, cells)
    assert f"[red]{HOSTILE}" in predictions, "what is redirected to a file is data"

    out = terminal(120)
    for argv in (
        ["run.py", *flags, "--max-epochs", "1"],
        ["predict.py", record.parent, cells],
        ["run.py", "--resume", record.parent, "--help"],
    ):
        called(monkeypatch, capsys, *argv)  # pyright: ignore[reportArgumentType]
        written = out.getvalue().replace("\r", "")
        assert harmless(CODES.sub("", written))
        assert not re.search("\x1b\\[31mred|\x1b\\[1m,|\x1b\\]0", written)
        assert r"\x1b[31mred" in written
        out = terminal(120)


def test_a_record_gives_no_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: Terminal
) -> None:
    make_seeds(tmp_path / "runs" / "a", [0.8, 0.9], fields={"note": HOSTILE}, data={"source": HOSTILE})
    make_seeds(tmp_path / "runs" / "b", [0.7], fields={"note": f"[red]{HOSTILE}"}, data={"source": HOSTILE})
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))
    one, two = tmp_path / "runs/a/run-0", tmp_path / "runs/b/run-0"
    for args in ((), ("diff", one, two)):
        code, shown = called(monkeypatch, capsys, "compare.py", *args)
        assert (code, harmless(shown)) == (0, True)
        assert SHOWN in shown
        assert f"[red]{SHOWN}" in shown
        out = terminal(200)
        called(monkeypatch, capsys, "compare.py", *args)
        assert harmless(CODES.sub("", out.getvalue()))
        assert SHOWN in out.getvalue()
        monkeypatch.undo()
        monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))


def test_what_is_escaped() -> None:
    text = "tab\tline\nÄ 文 🙂 [red]"
    assert streams.escaped(text) == text
    for character in [*map(chr, range(32)), *map(chr, range(127, 160)), *"\u202a\u202e\u2066\u2069\u2028\u200f"]:
        found = streams.escaped(character)
        assert found == character if character in "\t\n" else found.isascii()
        assert found == character or json.dumps(character).strip('"').isprintable()


def test_the_bar_of_a_download_is_left_alone() -> None:
    out = Tty()
    streams.Escaped(out).write("\rmodel 10%")
    streams.Escaped(out).write("a\rb")
    assert out.getvalue() == "\rmodel 10%a\\rb"


def test_a_reader_that_goes_away_ends_nothing() -> None:
    """`run.py | head -1` trains on; what is still in the buffer goes nowhere too."""
    reads, writes = os.pipe()
    with open(writes, "w", encoding="utf-8") as pipe:
        stream = streams.Escaped(pipe)
        print("the one line that is read", file=stream, flush=True)
        os.close(reads)
        with pytest.raises(BrokenPipeError):
            os.write(writes, b"the premise")
        for _ in range(3):
            print("x" * 100_000, file=stream, flush=True)


def test_a_reader_of_the_help_that_goes_away_has_no_traceback() -> None:
    """`run.py --help | head -1`."""
    command = [sys.executable, "scripts/run.py", "experiments/tables.py", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(6) == "usage:"
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)
