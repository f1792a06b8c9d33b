"""What export.py does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from src.cli.parser import NoColor
from src.configs.errors import InputError
from src.configs.export import FormatName


@dataclass(frozen=True)
class ExportFlags:
    """Export a run: its network and its preparation, checked on the run's validation data from the raw input to the
    answer. An export that does not answer as the run does is not kept."""

    run: tyro.conf.Positional[Path]
    """Run directory, runs/<Experiment>/<id>."""
    format: Annotated[tuple[FormatName, ...], tyro.conf.arg(metavar="FORMAT ...")] = ("onnx",)
    """One or several, each in a folder of its own: onnx, which predict.py and serve.py take, pt2, openvino, executorch,
    coreml."""
    examples: int = 8
    """Validation examples that go along with their answers, for anyone to check; 0 for none."""
    data_dir: Path | None = None
    """Where the run's data are now, if they have moved."""
    experiment: Path | None = None
    """The file of the run's experiment, where that is not below experiments/. Its code is run."""
    no_color: NoColor = False
    """No colours, as with the environment variable NO_COLOR."""

    def __post_init__(self) -> None:
        if not self.format:
            raise InputError("--format: name one at least.")
        if self.examples < 0:
            raise InputError(f"--examples {self.examples}: 0 or more.")
        if self.data_dir is not None and not self.data_dir.exists():
            raise InputError(f"--data-dir {self.data_dir}: no such file or folder.")


def export(flags: ExportFlags) -> int:
    """Export a run and say what comes next; return the exit code, 1 where a format could not be had."""
    from src.deploy.export import export_formats, show_commands
    from src.training.trainer import quieten

    quieten()
    found = export_formats(flags.run, flags.format, examples=flags.examples, data_dir=flags.data_dir)
    if "onnx" in found.folders:
        show_commands(found.folders["onnx"])
    return 1 if found.failures else 0
