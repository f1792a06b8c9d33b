"""What a run was made with: versions of libraries, and the state of the checkout."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess

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
