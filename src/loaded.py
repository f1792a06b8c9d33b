"""Runs and exports as Python has them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from typing_extensions import override

from src.configs import shown
from src.configs.errors import InputError
from src.configs.explain import MethodName
from src.configs.training import Accelerator
from src.inference.exported import Exported
from src.runs import records, state

if TYPE_CHECKING:
    import numpy as np
    from lightning.pytorch import LightningModule
    from PIL import Image

    from src.explain.explanation import Explanations

    Inputs = str | Path | Image.Image | np.ndarray | pd.DataFrame | Sequence[str | Path | Image.Image | np.ndarray]


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
        from src.runs.compare.groups import flat

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

    def model(self) -> LightningModule:
        """Return the task, or the LightningModule of your own, with the weights of the best checkpoint, in evaluation
        mode, on the CPU.

        Of a task, `model(batch)` gives the outputs, before softmax or the target's scale, in float32 even where the
        run, and `predict`, compute in bfloat16. `model.model` is the network alone.

        Raises:
            InputError: the run has no checkpoint, or is a parent, whose children have one each.

        Examples:
            >>> model = run.model()
            >>> model(run.prepare(["a.png"])).softmax(1)
        """
        run = self._with_weights()
        from src.inference import predictor

        return predictor.load_module(run)[1].eval()

    def prepare(self, inputs: Inputs) -> dict[str, Any]:
        """Return inputs, as `predict` takes them, as the one batch of tensors that `model()` takes.

        Raises:
            InputError: an input that cannot be read.

        Examples:
            >>> run.prepare(["a.png"])["image"].shape
            torch.Size([1, 3, 224, 224])
        """
        run = self._with_weights()
        from src.inference import predictor

        return predictor.batch_of(run, _listed(inputs))

    def explain(
        self,
        inputs: Inputs | None = None,
        *,
        mistakes: int = 0,
        method: MethodName | None = None,
        target: str = "",
        budget: float | None = None,
        data_dir: Path | None = None,
    ) -> Explanations:
        """Return why the run answers as it does, with checks that say whether that can be believed.

        Each explanation has `values`, `table()` and, for an image, `picture()`; `checks.warnings` says why not to trust
        them, and is empty where they may be trusted.

        Args:
            inputs: as `predict` takes them.
            mistakes: in their place, so many of the run's own worst mistakes on its validation data.
            method: Grad-CAM for images, integrated gradients for texts and KernelSHAP for tables unless given.
            target: class or label to explain; the likeliest one of each input unless given.
            budget: seconds for explanations and checks; `notes` says what was left out.
            data_dir: where the run's data are now, if they have moved.

        Raises:
            InputError: the run has no checkpoint, the method does not fit it, or there is nothing to explain.

        Examples:
            >>> found = run.explain(["a.png"])
            >>> found.checks.warnings
            []
            >>> found[0].picture().save("why.png")
        """
        if (inputs is None) == (not mistakes):
            raise InputError("give inputs to explain, or mistakes=N for the run's own; one of the two.")
        from src.explain.explain import Explainer
        from src.training.quiet import quietly

        with quietly():
            explainer = Explainer(self.path, method=method, target=target, data_dir=data_dir, budget=budget)
            read = explainer.worst(mistakes) if inputs is None else explainer.read(_listed(inputs))
            return explainer.explain(read)

    def _with_weights(self) -> Path:
        records.refuse_study(self.path, self.record, "Load")
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
        return f"{type(self).__name__}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{html.escape(n)}</th><td>{html.escape(v)}</td></tr>" for n, v in self._shown().items())
        return f"<table><caption>{html.escape(str(self.path))}</caption>{rows}</table>"


@dataclass(frozen=True, repr=False)
class Export(Run):
    """An export of a run. It predicts as the run does, by onnxruntime and without torch; `record` is what the
    certificate says of the run.

    Examples:
        >>> export = leyden.load("runs/DigitsCNN/20260131T120000Z-1a2b/export/onnx")
        >>> export.certificate["parity"]["largest"]
        8.9e-07
    """

    exported: Exported = field(compare=False)

    @property
    def certificate(self) -> dict[str, Any]:
        """All of `certificate.json`: versions, processor, hashes, parity, speed and what was not covered."""
        return self.exported.certificate

    @property
    @override
    def record(self) -> dict[str, Any]:
        return self.certificate["run"]

    @property
    @override
    def state(self) -> str:
        return "done"

    @property
    @override
    def history(self) -> pd.DataFrame:
        raise InputError(f"{self.path}: an export has no history of the training. Load its run.")

    @override
    def predict(
        self,
        inputs: Inputs,
        *,
        accelerator: Accelerator = "auto",
        calibrate: bool = True,
        threshold: bool = False,
    ) -> pd.DataFrame:
        if accelerator not in ("auto", "cpu"):
            raise InputError(f"accelerator={accelerator!r}: an export is predicted with on the CPU. Load its run.")
        return self.exported.predict(_listed(inputs), calibrate=calibrate, threshold=threshold).frame()

    @override
    def explain(
        self,
        inputs: Inputs | None = None,
        *,
        mistakes: int = 0,
        method: MethodName | None = None,
        target: str = "",
        budget: float | None = None,
        data_dir: Path | None = None,
    ) -> Explanations:
        raise InputError(f"{self.path}: an export has no weights of torch to explain. Load its run.")

    @override
    def _with_weights(self) -> Path:
        raise InputError(f"{self.path}: an export has no weights of torch. Load its run.")


def _listed(inputs: Inputs) -> list[Any]:
    """Return the inputs as a list, where one was given alone."""
    return list(inputs) if isinstance(inputs, list | tuple) else [inputs]
