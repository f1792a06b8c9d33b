"""Leyden from Python: run experiments, load and compare runs, predict."""

from __future__ import annotations

import html
import math
import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from src.cli.parser import RunFlags, experiment_of
from src.configs import shown
from src.configs.changes import with_fields
from src.configs.errors import InputError
from src.configs.training import Accelerator
from src.datamodules.tables.kinds import columns
from src.experiment import Experiment
from src.loading import load as load_experiment
from src.runs import records, state
from src.runs.compare.groups import flat

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "IProgress not found")  # in a notebook without ipywidgets; bars are text there
    import tqdm.auto  # noqa: F401

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from src.tasks import Task

    Inputs = str | Path | Image.Image | np.ndarray | pd.DataFrame | Sequence[str | Path | Image.Image | np.ndarray]

__all__ = ["InputError", "Run", "columns", "compare", "load", "run"]


@dataclass(frozen=True, repr=False)
class Run:
    """A run directory, read whenever it is asked: of a run that is still training, the attributes move.

    Attributes:
        path: the run directory, `runs/<Experiment>/<id>`.

    Examples:
        >>> run = leyden.load("runs/DigitsCNN/20260131T120000Z-1a2b")
        >>> run.metrics["val/acc"]
        0.9889
    """

    path: Path

    @property
    def record(self) -> dict[str, Any]:
        """All of `run.json`: data, weights, versions, times, figures of each class."""
        return records.load(self.path)

    @property
    def state(self) -> str:
        """done, failed, interrupted, running, or died, which is running by a process that is gone."""
        return state.state_of(self.path, self.record)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the best checkpoint, such as 'val/acc', and of the test set where it was read."""
        return self.record.get("metrics", {})

    @property
    def config(self) -> dict[str, Any]:
        """The experiment's fields, nested ones with a dot, as `run` takes them: `run(experiment, **config)`."""
        return flat(self.record["fields"])

    @property
    def history(self) -> pd.DataFrame:
        """Everything logged while training: a row each with epoch, from 1, step, name and value.

        Examples:
            >>> run.history.pivot_table(index="epoch", columns="name", values="value")["val/loss"].plot()
        """
        return pd.DataFrame(records.metrics(self.path), columns=["epoch", "step", "name", "value"])

    def predict(
        self,
        inputs: Inputs,
        *,
        accelerator: Accelerator = "auto",
        calibrate: bool = True,
        threshold: bool = False,
    ) -> pd.DataFrame:
        """Return a row for each input, in their order: what `predict.py` writes, to the last digit.

        The columns are the id, `label` and a probability for each class (or `labels`, or `prediction` with `lower` and
        `upper`), and `error`, which says why an input could not be read. An ensemble or a cross-validation predicts the
        mean over its children.

        Args:
            inputs: one or a list. For images files, folders, PIL images, uint8 arrays [height, width, channels] or a
                batch of them; for texts strings, a DataFrame, or files as a `Path`; for tables files or a DataFrame.
            accelerator: device to run on.
            calibrate: scale the probabilities by the temperature that the run found on its validation data.
            threshold: decide by the thresholds that the run found, not for the more likely class.

        Raises:
            InputError: the run has no checkpoint, or the inputs are not what it predicts.

        Examples:
            >>> run.predict(["a.png", "folder/"])[["id", "label"]]
            >>> run.predict(np.zeros((8, 224, 224, 3), np.uint8))
        """
        from src.inference import predictor
        from src.training.quiet import quietly

        with quietly():
            found = predictor.predict(
                self.path, _listed(inputs), accelerator=accelerator, calibrate=calibrate, threshold=threshold
            )
            return found.frame()

    def model(self) -> Task:
        """Return the task with the weights of the best checkpoint, in evaluation mode, on the CPU.

        It is a `torch.nn.Module`: `model(batch)` gives the outputs, before softmax or the target's scale, in float32
        even where the run, and `predict`, compute in bfloat16. `model.model` is the network alone.

        Raises:
            InputError: the run has no checkpoint, or is a parent, whose children have one each.

        Examples:
            >>> model = run.model()
            >>> model(run.prepare(["a.png"])).softmax(1)
        """
        from src.inference import predictor

        return predictor.load_run(self._with_weights())[2].eval()

    def prepare(self, inputs: Inputs) -> dict[str, Any]:
        """Return inputs, as `predict` takes them, as the one batch of tensors that `model()` takes.

        Raises:
            InputError: an input that cannot be read.

        Examples:
            >>> run.prepare(["a.png"])["image"].shape
            torch.Size([1, 3, 224, 224])
        """
        from src.inference import predictor

        return predictor.batch_of(self._with_weights(), _listed(inputs))

    def _with_weights(self) -> Path:
        if children := state.children(self.path):
            raise InputError(f"{self.path}: its children have the weights. Load one: {children[0]}.")
        return self.path

    def _shown(self) -> dict[str, str]:
        record = self.record
        data, best = record.get("data", {}), record.get("best", {})
        source = f"{'STAND-IN: ' if data.get('stand_in') else ''}{data['source']}" if data else ""
        found = {"state": self.state, "data": source, "reason": record.get("reason", "")}
        found |= {"best": f"{best['name']} {shown.metric(best['value'])}"} if best else {}
        return {n: text for n, text in found.items() if text} | {n: shown.metric(v) for n, v in self.metrics.items()}

    def __repr__(self) -> str:
        found = self._shown()
        parts = [str(self.path), *(found[name] for name in ("state", "best", "data") if name in found)]
        return f"Run({', '.join(parts)})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{html.escape(n)}</th><td>{html.escape(v)}</td></tr>" for n, v in self._shown().items())
        return f"<table><caption>{html.escape(str(self.path))}</caption>{rows}</table>"


def run(
    experiment: str | Path | Experiment | type[Experiment] | None = None,
    *,
    test: bool = False,
    baselines: bool = False,
    folds: int | None = None,
    ensemble: int | None = None,
    resume: str | Path | Run | None = None,
    checkpoint_every: str = "10min",
    **fields: Any,
) -> Run:
    """Train an experiment and return its run; only progress is printed.

    Ctrl-C, the stop button of a notebook, and SIGTERM end the step and save, as in the shell. Warning filters, random
    generators and signal handlers are afterwards as before. For several seeds, call it once a seed and `compare`.

    Args:
        experiment: `experiments/digits.py:DigitsCNN`, the class, or an instance; None where a run is resumed.
        test: read the test set too, with the best checkpoint.
        baselines: fit scikit-learn's baselines to the same split; they are in `Run.record`.
        folds: cross-validate in so many folds.
        ensemble: train so many members and average what they predict.
        resume: a run to go on with, in its own directory; with `test`, to test when it is done.
        checkpoint_every: save within an epoch too, after so many steps ('500') or minutes ('10min').
        **fields: fields of the experiment to change, nested ones with a dot: `max_epochs=3`, `**{"optim.lr": 1e-4}`.

    Raises:
        InputError: what can be put right, such as a field that the experiment does not have.
        KeyboardInterrupt: by Ctrl-C. The run is marked as interrupted, and can be resumed.

    Examples:
        >>> run = leyden.run("experiments/digits.py:DigitsCNN", max_epochs=3)
        epoch 1/3 ...
        >>> leyden.run(resume=run, test=True).metrics["test/acc"]
        0.9815
    """
    resumed = resume.path if isinstance(resume, Run) else Path(resume) if resume else None
    flags = RunFlags(test=test, baselines=baselines, folds=folds, ensemble=ensemble, resume=resumed)
    flags = replace(flags, checkpoint_every=checkpoint_every)
    wanted = with_fields(experiment_of(resumed) if resumed else _experiment(experiment), fields, options=vars(flags))
    if resumed and (experiment is not None or folds or ensemble or "seed" in fields):
        raise InputError("resume goes on with the run's own experiment, seed, folds and members; leave them out.")
    from src.callbacks import Interrupted
    from src.cli.commands import train
    from src.training.quiet import quietly

    with quietly():
        try:
            done = Run(train(wanted, flags))
        except Interrupted as stop:
            if stop.exit_code != 128 + signal.SIGINT:
                raise SystemExit(stop.exit_code) from None
            raise KeyboardInterrupt("the run is interrupted; leyden.run(resume=<its directory>) goes on") from None
    _warn_of_fallbacks(done.record)
    return done


def load(path: str | Path) -> Run:
    """Return the run of a directory.

    Raises:
        InputError: the directory is no run; the message names the latest ones beside it.

    Examples:
        >>> leyden.load("runs/DigitsCNN/20260131T120000Z-1a2b")
    """
    records.load(Path(path))
    return Run(Path(path))


def compare(*places: str | Path) -> pd.DataFrame:
    """Return a row for each group of runs that differ in the seed alone, the best first among those on the same data.

    The columns are the experiment, the settings that differ, the data, how many runs are done, failed and so on, and
    for each metric `_mean`, `_sd`, `_n`, `_low` and `_high`, the last two the 95 % interval of the mean, from
    three runs on. Rows with another `fingerprint` or `split` cannot be compared. `frame.attrs["warnings"]` says what
    else to beware of, and `frame.attrs["skipped"]` which runs could not be read.

    Args:
        *places: run directories, or folders to search for them; by default all runs.

    Raises:
        InputError: a place is not there, or has no run.

    Examples:
        >>> leyden.compare("runs")[["experiment", "done", "val/acc_mean", "val/acc_sd"]]
    """
    from src.runs.compare import files
    from src.runs.compare.caution import cautions
    from src.runs.compare.groups import compare as grouped
    from src.runs.compare.runs import find

    runs, skipped = find([Path(place) for place in places] or [records.runs_dir()])
    blocks = grouped(runs)
    frame = pd.DataFrame(files.rows(blocks)).replace({None: math.nan}).infer_objects()
    frame.attrs = {"warnings": cautions(blocks), "skipped": skipped}
    return frame


def _experiment(given: str | Path | Experiment | type[Experiment] | None) -> Experiment:
    if isinstance(given, Experiment):
        return given
    if isinstance(given, str | Path):
        return load_experiment(str(given))()
    if isinstance(given, type) and issubclass(given, Experiment):
        return given()
    raise InputError(f"{given!r}: no experiment. Give experiments/<file>.py[:Name], a class, or an instance.")


def _listed(inputs: Inputs) -> list[Any]:
    """Return the inputs as a list, where one was given alone."""
    return list(inputs) if isinstance(inputs, list | tuple) else [inputs]


def _warn_of_fallbacks(record: Mapping[str, Any]) -> None:
    """Warn where other data or weights stood in for those asked for, which the shell's plan says in capitals."""
    fields, data = record["fields"], record["data"]
    found = [f"the data is {data['source']}"] if data["stand_in"] and fields["source"] == "auto" else []
    found += [f"{name} {fields[name]} in place of {wanted}" for name, wanted in record["asked"].items()]
    if found:
        warnings.warn(f"STAND-IN: {'; '.join(found)}. No score on it holds for the real one.", stacklevel=3)
