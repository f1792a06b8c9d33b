"""What an example costs of memory, when all but its content is in the cache; benchmarks/growth.py has the times.

The bounds leave room above what was measured, and are below what it was when each example had objects of its own.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from src.datamodules import DataModule, ImageFolder, TextTable
from src.datamodules.texts.vectors import mutual_information
from src.experiment import TextPrep, Vocabulary
from src.resources.files import write_json

COUNT = 20_000


@pytest.fixture(scope="module")
def many_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many") / "images"
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(root / "ab"[number % 2] / f"{number:07}.bmp")
    return root


@pytest.fixture(scope="module")
def many_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "texts.csv"
    lines = (f"word{number % 1000} of text {number},{('good', 'bad')[number % 2]}\n" for number in range(COUNT))
    path.write_text("text,label\n" + "".join(lines))
    return path


def texts_of(path: Path) -> TextTable:
    return TextTable(path, vocabulary=Vocabulary(tokenizer="word", size=2000, vectors="none"), prep=TextPrep())


def traced(call: Callable[[], object]) -> tuple[float, float]:
    """Return bytes an example that a call leaves behind, and that it needs at the most."""
    tracemalloc.start()
    try:
        result = call()
        kept, peak = tracemalloc.get_traced_memory()
        del result
    finally:
        tracemalloc.stop()
    return kept / COUNT, peak / COUNT


def set_up(data: DataModule, run: Path) -> DataModule:
    data.setup("fit")
    write_json(run / "split.json", {split: data.ids(split) for split in data.sizes()})
    return data


def test_a_picture_costs_its_name_and_a_few_numbers(many_pictures: Path, tmp_path: Path) -> None:
    def data() -> ImageFolder:
        return ImageFolder(many_pictures, image_size=4)

    set_up(data(), tmp_path)
    kept, peak = traced(lambda: set_up(data(), tmp_path))
    assert kept < 300, "140 measured, half of it the name; 646 with paths and tuples"
    assert peak < 500, "254 measured; 919"


def test_a_text_costs_a_few_numbers(many_texts: Path, tmp_path: Path) -> None:
    set_up(texts_of(many_texts), tmp_path)
    kept, peak = traced(lambda: set_up(texts_of(many_texts), tmp_path))
    assert kept < 60, "34 measured; 96 with each row's number as text"
    assert peak < 160, "115 measured; 184"


def test_mutual_information_needs_no_second_matrix() -> None:
    counts = sparse.csr_matrix(sparse.random_array((2000, 2000), density=0.25, dtype=np.float32, rng=0))
    size = counts.data.nbytes + counts.indices.nbytes
    _, peak = traced(lambda: mutual_information(counts))
    assert peak * COUNT < size, "half of it measured; 3.3 times as much with a second one"
