"""What explain.py does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from src.cli.parser import NoColor
from src.configs.errors import InputError
from src.configs.explain import MethodName
from src.terminal import console


@dataclass(frozen=True)
class ExplainFlags:
    """Show why a run answers as it does, on a page that first says whether the explanations can be believed."""

    run: tyro.conf.Positional[Path]
    """Run directory, runs/<Experiment>/<id>."""
    inputs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """What predict.py takes: images and folders, texts, tables."""
    mistakes: int = 0
    """Explain the run's own worst mistakes on its validation data, so many, in place of inputs."""
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
    from src.explain import page
    from src.explain.explain import Explainer
    from src.training.trainer import quieten

    quieten()
    began = time.monotonic()
    explainer = Explainer(flags.run, method=flags.method, target=flags.target, data_dir=flags.data_dir)
    inputs = explainer.worst(flags.mistakes) if flags.mistakes else flags.inputs
    found = explainer.explain(inputs, flags.budget)
    written = page.write_all(found, explainer, flags.out)
    for reason in found.checks.warnings:
        console.line("WRONG", f"do not trust these explanations: {reason}")
    console.line("method", found.method)
    for name, text in found.checks.lines().items():
        console.line(name, text)
    for note in found.notes:
        console.line("note", note)
    for name, why in found.errors.items():
        console.line("note", f"{name}: {why}")
    seconds = time.monotonic() - began
    console.line("explained", f"{len(found)} inputs in {seconds:.1f} s; {', '.join(map(str, written))}")
    return 0
