"""Tables that come with scikit-learn, for each kind of target: they only stand in for the user's own."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, make_multilabel_classification
from sklearn.utils import Bunch

from src.configs.labels import LABEL_SEPARATOR
from src.configs.spec import TargetKind

TOPICS = ("art", "economy", "health", "science", "sports")


def fallback_table(kind: TargetKind) -> tuple[str, Any]:
    """Return a name, and 'data' (a DataFrame) with 'target' and maybe 'target_names'."""
    match kind:
        case "regression":
            return "diabetes", load_diabetes(as_frame=True, scaled=False)
        case "single_label":
            return "breast cancer", load_breast_cancer(as_frame=True)
        case "multi_label":
            return "synthetic topics of documents", draw_documents()


def draw_documents() -> Bunch:
    """Return counts of 20 words in 2 000 synthetic documents, and the topics, none to five, that each is about."""
    made: Any = make_multilabel_classification(
        n_samples=2000, n_features=20, n_classes=len(TOPICS), n_labels=2, random_state=0
    )
    counts, about = made
    frame = pd.DataFrame(counts, columns=[f"word {number}" for number in range(1, counts.shape[1] + 1)])
    topics = [LABEL_SEPARATOR.join(name for name, there in zip(TOPICS, row, strict=True) if there) for row in about]
    return Bunch(data=frame, target=topics)
