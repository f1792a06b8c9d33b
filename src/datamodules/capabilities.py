"""What a data module may offer beyond batches. Asked for by `isinstance`; flags that need it are refused early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from src.configs.errors import InputError
from src.configs.spec import DataSpec

if TYPE_CHECKING:
    from torch import Tensor

    from src.datamodules.preparation import PredictionInput, Preparation
    from src.datamodules.tables.kinds import TableColumns


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

    def preparation(self, spec: DataSpec) -> Preparation:
        """Return what becomes of an input before the network sees it.

        Args:
            spec: of the run.
        """
        ...


@runtime_checkable
class GivesRawInputs(Protocol):
    """Gives its examples as a user would predict them."""

    def raw_inputs(self, split: str, positions: Sequence[int]) -> Sequence[PredictionInput]:
        """Return some examples before any preparation: files, images or texts; for rows one table of them all."""
        ...


def require(part: object, capability: type, flag: str, why: str) -> None:
    """Raise an InputError that names the flag where a part lacks what the flag needs."""
    if not isinstance(part, capability):
        raise InputError(f"{flag}: {type(part).__name__} {why}")
