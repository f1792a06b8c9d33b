"""Files of the numbers: CSV of words and columns, NPZ of maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pandas as pd
import pytest

from src.explain.explanation import Explanations
from src.explain.numbers import write_numbers


def test_words_are_rows_of_a_csv(tmp_path: Path) -> None:
    explanations = made.explanations(made.text(0), made.text(1))
    (path,) = write_numbers(explanations, tmp_path / "why.v2")
    assert path == tmp_path / "why.v2.numbers.csv"
    read = pd.read_csv(path, dtype={"id": str})
    assert list(read) == ["id", "target", "answer", "position", "word", "attribution", "error", "unit"]
    assert len(read) == 2 * len(made.REVIEW.split())
    first = read.iloc[0]
    assert (first["id"], first["target"], first["word"]) == ("0", "pos", "superb,")
    assert first["attribution"] == explanations[0].values.max()
    assert read[read["id"] == "1"]["answer"].unique() == [0.962]


def test_columns_are_rows_of_a_csv(tmp_path: Path) -> None:
    explanations = made.explanations(made.row())
    explanations.unit = "the number's own unit"
    (path,) = write_numbers(explanations, tmp_path / "why")
    read = pd.read_csv(path, dtype={"value": str}, keep_default_na=False)
    assert list(read) == ["id", "target", "answer", "column", "value", "attribution", "error", "unit"]
    assert set(read["unit"]) == {"the number's own unit"}
    assert read[["column", "value", "attribution"]].to_numpy()[2].tolist() == ["Neighborhood", "NridgHt", 15_950]


def test_maps_are_arrays_that_load_without_pickle(tmp_path: Path) -> None:
    explanations = made.explanations(replace(made.image(0), id="../a\udcff.jpg"), made.image(1, side=28))
    (path,) = write_numbers(explanations, tmp_path / "new" / "why")
    assert path == tmp_path / "new" / "why.numbers.npz"
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == {"ids", "targets", "answers", "unit", "map_0", "map_1"}
        assert arrays["ids"].tolist() == ["../a\\xff.jpg", "photos/holiday/1.jpg"]
        assert arrays["targets"].tolist() == ["cat", "cat"]
        assert arrays["answers"].tolist() == [each.answer for each in explanations]
        assert (arrays["map_0"].shape, arrays["map_1"].dtype) == ((224, 224), np.float32)
        assert arrays["map_1"] == pytest.approx(explanations[1].values, abs=1e-6)


def test_a_table_of_the_users_own_beside_the_page_is_not_written_over(tmp_path: Path) -> None:
    for own in ("mine.csv", "mine.npz"):
        (tmp_path / own).write_text("my own")
    write_numbers(made.explanations(made.row()), tmp_path / "mine")
    write_numbers(made.explanations(made.image()), tmp_path / "mine")
    assert [(tmp_path / own).read_text() for own in ("mine.csv", "mine.npz")] == ["my own"] * 2
    assert sorted(path.name for path in tmp_path.iterdir() if "numbers" in path.name) == [
        "mine.numbers.csv",
        "mine.numbers.npz",
    ]


def test_without_explanations_there_is_no_file(tmp_path: Path) -> None:
    assert write_numbers(Explanations([], "Grad-CAM", made.checks(), {"a": "broken"}, []), tmp_path / "why") == []
    assert [*tmp_path.iterdir()] == []
