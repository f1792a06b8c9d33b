"""Export a run: `python scripts/export.py runs/<Experiment>/<id> --format onnx pt2 openvino executorch coreml`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli


def main(flags: cli.ExportFlags) -> int:
    if flags.experiment:
        cli.load(str(flags.experiment))  # imported by name, the run finds it
    return cli.export(flags)


if __name__ == "__main__":
    sys.exit(cli.exit_code(lambda: main(cli.read_flags(cli.ExportFlags, sys.argv[1:]))))
