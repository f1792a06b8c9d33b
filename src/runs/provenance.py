"""What a run was made with: versions of libraries, and the state of the checkout."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from src.resources import files

VERSIONS = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "timm",
    "transformers",
    "tokenizers",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "scikit-learn",
    "scipy",
)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def code_of(experiment: type) -> str:
    """Return 16 hex digits that stand for the code of the checkout and of an experiment, committed or not."""
    paths = [path for folder in ("src", "experiments", "scripts") for path in (files.ROOT / folder).rglob("*.py")]
    if own := getattr(sys.modules[experiment.__module__], "__file__", None):  # a notebook has none
        paths.append(Path(own))
    return hashlib.sha256("".join(map(files.digest_of, sorted({*paths}))).encode()).hexdigest()[:16]


def git_state() -> tuple[str, str]:
    """Return the checkout's commit and its uncommitted diff, new files included; both empty without git or a commit."""
    commit = _git("rev-parse", "HEAD").strip()
    if not commit:
        return "", ""
    new = _git("ls-files", "--others", "--exclude-standard", "--", "*.py", "*.pyi").splitlines()
    return commit, _git("diff", "HEAD") + "".join(_git("diff", "--no-index", os.devnull, name) for name in new)


def _git(*args: str) -> str:
    try:
        done = subprocess.run(["git", *args], cwd=files.ROOT, capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = done.returncode == 0 or (done.returncode == 1 and args[0] == "diff")  # 1: files differ
    return done.stdout.decode(errors="replace") if found else ""
