"""What explain.py does."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from src.cli.parser import NoColor
from src.configs.errors import InputError
from src.configs.explain import MethodName
from src.terminal import console

if TYPE_CHECKING:
    from src.explain.explain import Explainer
    from src.explain.explanation import Explanations

COMMAND = shlex.join(["python", *sys.argv])


@dataclass(frozen=True)
class ExplainFlags:
    """Show why a run answers as it does, on a page that first says whether the explanations can be believed."""

    run: tyro.conf.Positional[Path]
    """Run directory, runs/<Experiment>/<id>."""
    inputs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Images, folders of them, or tables that name them; for texts tables or .txt files; tables. As predict.py."""
    mistakes: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """In place of inputs, the run's own N worst mistakes on its validation data; TensorBoard has them too."""
    method: MethodName | None = None
    """How: Grad-CAM for images, integrated gradients for texts and KernelSHAP for tables unless given."""
    target: Annotated[str, tyro.conf.arg(name="class", metavar="NAME")] = ""
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
        if self.out is not None and self.out.suffix != ".html":
            raise InputError(f"--out {self.out}: the page is HTML. Name a file that ends in .html.")


def explain(flags: ExplainFlags) -> int:
    """Explain, write the page and the numbers, and say what was found; return the exit code."""
    from src.explain import board
    from src.explain.explain import Explainer
    from src.explain.kept import FOLDER
    from src.training.trainer import quieten

    quieten()
    began = time.monotonic()
    out = flags.out or flags.run / FOLDER / "explanations.html"
    explainer = Explainer(
        flags.run, method=flags.method, target=flags.target, data_dir=flags.data_dir, budget=flags.budget
    )
    make_folder(out)
    read = explainer.worst(flags.mistakes) if flags.mistakes else explainer.read(flags.inputs)
    found = explainer.explain(read)
    try:
        written = write(found, explainer, out, flags)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error}).") from error
    try:
        keep(found, explainer)
        if flags.mistakes:
            board.show(flags.run, found, read.titles[: len(found)])
    except InputError as error:
        found.notes.append(f"{error} The run's card and TensorBoard know nothing of this")
    except OSError as error:
        why = error.strerror or error
        found.notes.append(f"{flags.run}: cannot be written ({why}), so its card and TensorBoard know nothing of this")
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


def make_folder(out: Path) -> None:
    """Make the folder of a file, before there is much to lose; raise an InputError where that cannot be."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error}). Name another place.") from error


def write(found: Explanations, explainer: Explainer, out: Path, flags: ExplainFlags) -> list[Path]:
    """Write the page and its numbers beside it; return their paths."""
    from src.explain import page
    from src.explain.global_view import figures
    from src.explain.numbers import write_numbers

    overall = explainer.overall(found.notes)
    head = page.Head.of_run(explainer.run, command=COMMAND, asked=flags.target, mistakes=bool(flags.mistakes))
    page.write(found, head, out, [] if overall is None else figures(overall))
    return [out, *write_numbers(found, out.with_suffix(""))]


def keep(found: Explanations, explainer: Explainer) -> None:
    """Keep the checks for the run's model card, where they are of its network and its validation split."""
    from src.explain import kept

    if explainer.own is None or explainer.name == "tree-shap":
        return
    checks = found.checks
    said = kept.Kept(
        [f"{name}: {text}" for name, text in checks.lines().items()],
        checks.warnings,
        checks.faithful.examples if checks.faithful else 0,
        datetime.now(UTC).isoformat(timespec="seconds"),
        COMMAND,
    )
    kept.keep(explainer.run, found.method, said)
