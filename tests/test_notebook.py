"""The notebook in docs/ runs from its first cell to its last, without network or terminal."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]


def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook = nbformat.read(ROOT / "docs" / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "saved without outputs, which go stale"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}, "nothing is warned of"
    epochs = [line for output in outputs for line in output.get("text", "").splitlines() if line.startswith("epoch")]
    assert len(epochs) == 4 + 5 + 5
    assert any("image/png" in output.get("data", {}) for output in outputs), "the curves are drawn"
    assert "Did you mean max_epochs?" in str(outputs)
    assert len([*tmp_path.glob("runs/*/*/run.json")]) == 3
