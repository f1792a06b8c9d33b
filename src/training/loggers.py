"""Where a run's metrics go: metrics.csv, and the loggers of `--logger`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from src.callbacks.lightning_private import is_connected
from src.configs.errors import InputError
from src.experiment import Experiment
from src.runs import result_tables, summary
from src.runs.metrics_csv import MetricsCsv
from src.runs.records import Record
from src.runs.tensorboard import TensorBoard
from src.training.ranks import is_rank_zero

WAY_OUT = {
    "wandb": "Log in (`wandb login`), or set WANDB_MODE=offline",
    "mlflow": "Start the server that MLFLOW_TRACKING_URI names, or unset it: a file in the run directory is used then",
}
"""What helps where a tracker cannot be reached."""


@contextlib.contextmanager
def open_loggers(experiment: Experiment, record: Record, purge_step: int | None) -> Iterator[list[Logger]]:
    """Yield the run's loggers, metrics.csv first; at the end, close what would live on in the process.

    Args:
        experiment: its `logger` says which.
        record: the run's.
        purge_step: where a run goes on; TensorBoard hides what was logged there and later before.

    Raises:
        InputError: a logger's package is not installed, or its store cannot be opened.
    """
    loggers: list[Logger] = [MetricsCsv(record.folder)]
    if "tensorboard" in experiment.logger:
        loggers.append(TensorBoard(record.folder, purge_step=purge_step))
    if is_rank_zero():  # the others would log nothing, but open stores
        for name, build in (("wandb", wandb_logger), ("mlflow", mlflow_logger)):
            if name in experiment.logger:
                with explain_errors(name):
                    loggers.append(build(experiment, record))
    status: Literal["success", "failed"] = "failed"
    try:
        yield loggers
        status = "success"
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger) and is_connected(logger):  # else the next run writes into this
                logger.experiment.finish(exit_code=int(status == "failed"))
            elif isinstance(logger, MLFlowLogger | TensorBoard):  # TensorBoard has a thread, which would stay
                logger.finalize(status)


@contextlib.contextmanager
def explain_errors(name: str) -> Iterator[None]:
    """While a tracker is built or reached: an error names the flag and the way out.

    Raises:
        InputError: anything went wrong; each tracker has its own kinds.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"--logger {name}: not installed. `pip install --editable '.[loggers]'`.") from error
    except Exception as error:
        raise InputError(f"--logger {name}: {str(error).strip()[:300]} {WAY_OUT[name]}.") from error


def wandb_logger(experiment: Experiment, record: Record) -> WandbLogger:
    """Return a logger to Weights & Biases that goes on with the run of the same directory, if it has one."""
    name = identity(record.folder)
    return WandbLogger(project=type(experiment).__name__, name=name, id=name, save_dir=record.folder)


def mlflow_logger(experiment: Experiment, record: Record) -> MLFlowLogger:
    """Return a logger to MLFLOW_TRACKING_URI, else to an SQLite file in the run directory."""
    folder = record.folder.absolute()
    return MLFlowLogger(
        experiment_name=type(experiment).__name__,
        run_name=identity(record.folder),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}",
        run_id=record.get("mlflow_run_id"),
    )


def identity(folder: Path) -> str:
    """Return a name that no other run has: `<Experiment>-<id>`, or `<id>-fold-1` for a child."""
    return "-".join(folder.absolute().parts[-2:])


@rank_zero_only
def connect(loggers: Sequence[Logger], record: Record) -> None:
    """Reach the trackers before training rather than at its first metric, and keep what a resumed run needs.

    Raises:
        InputError: one cannot be reached.
    """
    for logger in loggers:
        if not isinstance(logger, WandbLogger | MLFlowLogger):
            continue
        name = "wandb" if isinstance(logger, WandbLogger) else "mlflow"
        with explain_errors(name):
            logger.experiment  # noqa: B018  # connects
            if isinstance(logger, MLFlowLogger):
                record.update(mlflow_run_id=str(logger.run_id))


def cut(loggers: Sequence[Logger], step: int) -> None:
    """Remove this step and later ones from metrics.csv: a run that goes on from there writes them again."""
    for logger in loggers:
        if isinstance(logger, MetricsCsv):
            logger.cut(step)


@rank_zero_only
def log_result(loggers: Sequence[Logger], record: Record) -> None:
    """Log what runs are compared by, once: flat fields, final and best metrics, and the baselines' beside them."""
    fields, metrics = summary.comparable(record, record.folder)
    for logger in loggers:
        if isinstance(logger, TensorBoard):
            logger.log_run(fields, metrics)
            if "baselines" in record:
                logger.log_table("baselines", result_tables.beside_baselines(record))
        elif isinstance(logger, WandbLogger | MLFlowLogger):
            logger.log_hyperparams(fields)
            logger.log_metrics(metrics)


def tensorboard_of(trainer: Trainer) -> TensorBoard | None:
    """Return the trainer's TensorBoard logger, if the experiment has one."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoard)), None)
