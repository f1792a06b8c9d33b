"""What scripts/auto.py tries of each kind of data, those that take least time first. Add your own."""

from __future__ import annotations

from experiments import images, neighbours, tables, tables_boosting, texts, texts_tf_idf
from src.experiment import Experiment

CANDIDATES: dict[str, tuple[type[Experiment], ...]] = {
    "image": (
        neighbours.ImagesNeighbours,
        images.ImagesProbe,
        images.ImagesCNN,
        images.Images,
        images.ImagesMultiLabel,
        images.ImagesRegression,
    ),
    "text": (
        texts_tf_idf.TextsTfIdf,
        texts_tf_idf.TextsTfIdfMultiLabel,
        texts_tf_idf.TextsTfIdfRegression,
        texts.TextsLstm,
        texts.TextsMultiLabel,
        texts.TextsRegression,
        texts.TextsProbe,
        neighbours.TextsNeighbours,
        texts.TextsBert,
        texts.TextsBertMultiLabel,
        texts.TextsBertRegression,
    ),
    "table": (
        tables.TableLinear,
        tables.TableLogistic,
        neighbours.TableNeighbours,
        neighbours.TableNeighboursRegression,
        neighbours.TableNeighboursMultiLabel,
        tables_boosting.TableBoosting,
        tables_boosting.TableBoostingClassification,
        tables_boosting.TableBoostingMultiLabel,
        tables.TableRegression,
        tables.TableClassification,
        tables.TableMultiLabel,
    ),
}
"""What the inputs are -> experiments, of which those are tried that predict what is wanted."""
