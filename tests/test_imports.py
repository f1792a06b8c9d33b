"""Importing changes nothing in the process: what a run needs set, the run sets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from test_architecture import imports

ROOT = Path(__file__).resolve().parents[1]

COMPARE = """
import importlib, os, signal, sys, warnings
import cv2, torch, PIL.Image

def settings():
    return {
        "OpenCV's threads": cv2.getNumThreads(),
        "torch's threads": torch.get_num_threads(),
        "Pillow's limit": PIL.Image.MAX_IMAGE_PIXELS,
        "environment": dict(os.environ),
        "filters of warnings": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "path": list(sys.path),
    }

theirs, ours = (names.split() for names in sys.stdin.read().split(";"))
for name in theirs:
    try:
        importlib.import_module(name)
    except ImportError:  # a class of a module, or an optional package
        pass
before = settings()
for name in ours:
    importlib.import_module(name)
for name, value in settings().items():
    if value != before[name]:
        print(name, before[name], value)
"""
"""Imports first what src imports, then src, and prints what has changed in between."""


def test_importing_src_sets_nothing() -> None:
    theirs, ours = set(), []
    for path in sorted((ROOT / "src").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        ours.append(name)
        for _, found in imports(path.read_text(), package):
            if not found.startswith("src"):
                theirs |= {found, found.rpartition(".")[0] or found}
    done = subprocess.run(
        [sys.executable, "-c", COMPARE],
        input=f"{' '.join(sorted(theirs))};{' '.join(ours)}",
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
