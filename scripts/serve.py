"""Serve an export over HTTP: `python scripts/serve.py runs/<Experiment>/<id>/export/onnx`; a run is exported first."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli
from src.deploy.server.flags import ServeFlags


def main(flags: ServeFlags) -> int:
    from src.deploy.server.process import serve

    return serve(flags)


if __name__ == "__main__":
    sys.exit(cli.exit_code(lambda: main(cli.read_flags(ServeFlags, sys.argv[1:]))))
