"""Cats or dogs on many GPUs, gradients sent in larger buckets that are not copied."""

from __future__ import annotations

from typing import Any

from experiments.cats_dogs_finetune import CatsDogsScratch


class CatsDogsBuckets(CatsDogsScratch):
    """With `--strategy ddp`: buckets of 50 MB; torch's own are of 25 MB."""

    def trainer_kwargs(self) -> dict[str, Any]:
        from lightning.pytorch.strategies import DDPStrategy

        if self.strategy != "ddp":
            return {}
        return {"strategy": DDPStrategy(bucket_cap_mb=50, gradient_as_bucket_view=True)}


DEFAULT = CatsDogsBuckets
