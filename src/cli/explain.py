"""What explain.py does."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from src.cli.parser import NoColor
from src.configs.errors import InputError
from src.configs.explain import MethodName
from src.resources.files import write_json
from src.terminal import console

if TYPE_CHECKING:
    from src.explain.explain import Explainer
    from src.explain.explanation import Explanations

FOLDER = "explanations"
"""Of a run."""


@dataclass(frozen=True)
class ExplainFlags:
    """Show why a run answers as it does, on a page that first says whether the explanations can be believed."""

    run: tyro.conf.Positional[Path]
    """Run directory, runs/<Experiment>/<id>."""
    inputs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """What predict.py takes: images and folders, texts, tables."""
    mistakes: int = 0
    """Explain the run's own worst mistakes on its validation data, so many, in place of inputs; TensorBoard has them
    too."""
    method: MethodName | None = None
    """How: Grad-CAM for images, integrated gradients for texts and KernelSHAP for tables unless given."""
    target: Annotated[str, tyro.conf.arg(name="class")] = ""
    """The class or label that is explained; the likeliest one of each input unless given."""
    out: Path | None = None
    """The page; without it RUN/explanations/explanations.html. The numbers are beside it, as CSV or NPZ."""
    budget: float | None = None
    """Seconds for explanations and checks. What is left out is said."""
    data_dir: Path | None = None
    """Where the run's data are now, if they have moved."""
    experiment: Path | None = None
    """The file of the run's experiment, where that is not below experiments/. Its code is run."""
    no_color: NoColor = False
    """No colours, as with the environment variable NO_COLOR."""

    def __post_init__(self) -> None:
        if self.mistakes < 0:
            raise InputError(f"--mistakes {self.mistakes}: 1 or more.")
        if bool(self.inputs) == bool(self.mistakes):
            raise InputError("name inputs to explain, or --mistakes N for the run's own; one of the two.")
        if self.budget is not None and not self.budget > 0:
            raise InputError(f"--budget {self.budget}: seconds, more than 0.")
        if self.out is not None and self.out.is_dir():
            raise InputError(f"--out {self.out}: a folder. Name a file in it.")


def explain(flags: ExplainFlags) -> int:
    """Explain, write the page and the numbers, and say what was found; return the exit code."""
    from src.explain import board
    from src.explain.explain import Explainer
    from src.training.trainer import quieten

    quieten()
    began = time.monotonic()
    explainer = Explainer(flags.run, method=flags.method, target=flags.target, data_dir=flags.data_dir)
    read = explainer.worst(flags.mistakes) if flags.mistakes else explainer.read(flags.inputs)
    found = explainer.explain(read, flags.budget)
    written = write(found, explainer, flags.out or flags.run / FOLDER / "explanations.html", flags.target)
    if flags.mistakes:
        board.show(flags.run, found)
    for reason in found.checks.warnings:
        console.line("WRONG", f"do not trust these explanations: {reason}")
    lines = {"method": found.method, **found.checks.lines()}
    for name, text in lines.items():
        console.line(name, text)
    for note in [*found.notes, *(f"{name}: {why}" for name, why in found.errors.items())]:
        console.line("note", note)
    count = f"{len(found)} input{'s' * (len(found) > 1)}"
    console.line("explained", f"{count} in {time.monotonic() - began:.1f} s: {', '.join(map(str, written))}")
    return 0


def write(found: Explanations, explainer: Explainer, out: Path, asked: str) -> list[Path]:
    """Write the page, its numbers beside it, and the checks for the run's model card; return the first ones' paths."""
    from src.explain import page
    from src.explain.global_view import figures
    from src.explain.numbers import write_numbers

    overall = explainer.overall()
    head = page.Head.of_run(explainer.run, command=shlex.join(["python", *sys.argv]), asked=asked)
    out.parent.mkdir(parents=True, exist_ok=True)
    page.write(found, head, out, [] if overall is None else figures(overall))
    lines = [f"{name}: {text}" for name, text in found.checks.lines().items()]
    write_json(
        explainer.run / FOLDER / "checks.json",
        {"method": found.method, "lines": lines, "warnings": found.checks.warnings},
    )
    return [out, *write_numbers(found, out.with_suffix(""))]
