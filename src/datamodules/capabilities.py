"""What a data module may offer beyond batches. Asked for by `isinstance`; flags that need it are refused early."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from src.configs.errors import InputError
from src.configs.spec import DataSpec

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

    from src.datamodules.tables.kinds import TableColumns

PredictionInput: TypeAlias = "Path | str | Image.Image | np.ndarray | pd.DataFrame"
"""What a data module may be asked to predict."""


@runtime_checkable
class ShowsExamples(Protocol):
    """Shows a person the examples, in TensorBoard and in a check of the data."""

    def examples(self, split: str, positions: Sequence[int]) -> Tensor | list[str]:
        """Return some examples: images, uint8 [examples, channels, height, width], or texts."""
        ...


@runtime_checkable
class FitsBaselines(Protocol):
    """Offers scikit-learn's models the examples that the network sees."""

    def baseline_inputs(self, split: str) -> Any:
        """Return the examples of a split: a DataFrame, images as rows of numbers [examples, pixels], or texts."""
        ...


@runtime_checkable
class KnowsColumns(Protocol):
    """Has found out what the columns of a table are."""

    kinds: TableColumns


@runtime_checkable
class PredictsFiles(Protocol):
    """Reads inputs to predict, which need no training data."""

    expected: Sequence[str]
    """Targets that came with the inputs, '' where there is none; may be empty."""
    id_name: str
    """Name of the column of ids that came with the inputs, else 'id'."""

    def prepare_prediction(self, inputs: Sequence[PredictionInput], spec: DataSpec) -> Sequence[str]:
        """Get `predict_dataloader` ready for the inputs and return the id of each.

        A batch has 'index' for the inputs that can be read and 'error', {index: why}, for the others.

        Args:
            inputs: files and folders; or PIL images and uint8 arrays [height, width, channels], texts, tables. A string
                is a text where texts are expected, else a path.
            spec: of the run.

        Raises:
            InputError: an input that is not there, is of another kind, or there is none.
        """
        ...


def require(part: object, capability: type, flag: str, why: str) -> None:
    """Raise an InputError that names the flag where a part lacks what the flag needs."""
    if not isinstance(part, capability):
        raise InputError(f"{flag}: {type(part).__name__} {why}")
