"""Classification of texts."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from src.tasks.classification import Classification
from src.tasks.task import Batch


class TextClassification(Classification):
    """Texts as 'tokens' [batch, length] and 'mask' [batch, length], True where a token is -> logits."""

    @override
    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch["tokens"], batch["mask"]
