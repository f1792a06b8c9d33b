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
        """Fill the HPARAMS tab, once, at the end: flat fields, and the metrics to compare runs by."""
        shown = {
            name: value if isinstance(value, bool | int | float) else printable(str(value))
            for name, value in fields.items()
        }
        writer = self.experiment
        for name, value in metrics.items():
            writer.add_scalar(name, value)
        # The first of the three says which columns the tab has. TensorBoard believes one run for all, and those of
        # other experiments be missing; without any it takes every run's fields, those that differ first.
        for summary in hparams(shown, dict(metrics))[1:]:
            writer._get_file_writer().add_summary(summary)
        writer.flush()
