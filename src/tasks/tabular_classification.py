"""Classification of a table's rows."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from src.tasks.classification import Classification
from src.tasks.task import Batch


class TabularClassification(Classification):
    """Rows as 'numbers' [batch, n] and 'categories' [batch, c] -> logits."""

    @override
    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch["numbers"], batch["categories"]
