"""TensorBoard in the run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams
from typing_extensions import override

from src.resources.files import printable

VISUALS = "visuals"
"""Group of all figures, images and histograms. TensorBoard orders groups by name: after train and val, whose curves it
so opens on."""


class TensorBoard(TensorBoardLogger):
    """Lightning's TensorBoardLogger writing into the run directory itself, without its `hparams.yaml`.

    Args:
        run: the run directory.
        purge_step: where the run goes on; TensorBoard hides what was logged there and later before.
    """

    def __init__(self, run: Path, purge_step: int | None = None) -> None:
        super().__init__(run, name="", version="", default_hp_metric=False, purge_step=purge_step)
        self.run = run

    @override
    @rank_zero_only
    def save(self) -> None:
        """Flush. The base would write an empty `hparams.yaml`; fields are in run.json."""
        self.experiment.flush()

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log all but the epoch, which Lightning adds: the first card would be a straight line."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    @override
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing, also for a module that saves hyperparameters: `log_run` fills the tab once, at the end."""

    @rank_zero_only
    def log_table(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Show a table as text; its first row is the header."""
        header, *body = (" | ".join(row) for row in rows)
        self.experiment.add_text(name, "\n".join([header, " | ".join("---" for _ in rows[0]), *body]))
        self.experiment.flush()

    @rank_zero_only
    def log_run(self, fields: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Fill the HPARAMS tab, once, at the end: flat fields, and the 'best/' of the metrics among them.

        As metrics of the tab they would have to be scalars, of one point each, and the first cards that one sees. The
        last value of each curve is in the tab anyway.
        """
        shown = {
            name: value if isinstance(value, bool | int | float) else printable(str(value))
            for name, value in fields.items()
        }
        shown |= {name: value for name, value in metrics.items() if name.startswith("best/")}
        # The first of the three says which columns the tab has. TensorBoard believes one run for all, and those of
        # other experiments be missing; without any it takes every run's fields, those that differ first.
        for summary in hparams(shown, {})[1:]:
            self.experiment._get_file_writer().add_summary(summary)
        self.experiment.flush()
