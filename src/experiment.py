"""An experiment: one short typed class whose fields are its command-line flags and whose methods build its parts.

Read this file first. It imports nothing heavy, so that `--help` and a mistyped flag answer at once.
"""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, dataclass_transform, get_origin, get_type_hints

from src.configs.errors import InputError, did_you_mean
from src.configs.image import Augment, Views
from src.configs.jsonable import from_json, to_json
from src.configs.neighbours import Neighbours
from src.configs.optim import Optim
from src.configs.search import Search, choice, log, uniform
from src.configs.spec import DataSpec, Target, TargetKind
from src.configs.table import Boosting, Columns, Csv, Perceptron, TablePrep
from src.configs.text import Recurrent, Terms, TextPrep, Vocabulary
from src.configs.training import Accelerator, Averaging, Imbalance, Logger, MatmulPrecision, Precision

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from src.datamodules import DataModule
    from src.tasks import Objective, Task
    from src.tasks.objectives import MultiLabel, Regression, SingleLabel


def _is_method(value: object) -> bool:
    return isinstance(value, FunctionType | classmethod | staticmethod | property)


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Base of all experiments. A subclass overrides fields by plain assignment (`max_epochs = 3`), adds its own with
    an annotation and a docstring, and builds its parts in `datamodule` and `task`. A bare name that is no field is
    refused when the class is made.
    """

    search: ClassVar[Search | None] = None
    """Fields that scripts/search.py varies, and the values that each may take."""
    seed: int = 0
    """Seeds weights, order, augmentation and dropout. The data split does not depend on it."""
    data_dir: Path | None = None
    """Your data; without it `data/<name>` if that is there."""
    source: str = "auto"
    """Where the data must come from; auto tries the data module's sources in order."""
    quarantine: Path | None = None
    """Examples to leave out: a list that scripts/check_data.py --fix wrote."""
    weights: str = "none"
    """Start: imagenet or pretrained (downloaded or packaged), none (random), or a file with a state dict."""
    max_epochs: int | None = 10
    """Passes over the training data. None: as many as suit their number, where the experiment says how many."""
    batch_size: int = 32
    """Examples a step and device."""
    num_workers: int | None = None
    """Processes that load data. None: in the main one where the CPU does all, else the cores of each GPU, at most 8."""
    accelerator: Accelerator = "auto"
    """Device to run on."""
    devices: str = "auto"
    """How many devices (2), which (0,1) or auto."""
    num_nodes: int = 1
    """Machines."""
    strategy: str = "auto"
    """How several devices share the work: auto, ddp, ddp_spawn, ..."""
    precision: Precision = "auto"
    """Arithmetic; auto takes bf16-mixed where the device has it in hardware, else 32-true; on a CPU whose flags do not
    tell, what a few steps show to be faster."""
    matmul_precision: MatmulPrecision | None = None
    """How exactly what stays in float32 is multiplied: highest, high (TF32: a mantissa of 10 bits) or medium
    (bfloat16). None: high on a GPU, else highest."""
    deterministic: bool | None = None
    """Only algorithms that give the same numbers each time, at their price. None: as torch is set."""
    benchmark: bool | None = None
    """Let cuDNN try its algorithms at each new shape, for batches of one shape. None: as torch is set."""
    grad_clip: float | None = None
    """Greatest norm of the gradient."""
    accumulate: int = 1
    """Batches whose gradients are added before a step."""
    monitor: str = "val/loss"
    """Validation metric that chooses the best checkpoint and stops early."""
    mode: Literal["min", "max"] = "min"
    """Whether less or more of `monitor` is better."""
    patience: int | None = None
    """Stop after so many validations without a better `monitor`."""
    averaging: Averaging = "none"
    """Validate, save and predict with averaged weights. ema: of all steps, the last thousand most. swa: of those at
    the ends of the last quarter of the epochs, alike; with a rate that stays up (Izmailov et al. 2018, 1803.05407)."""
    max_time: str | None = None
    """Stop after DD:HH:MM:SS with the best so far."""
    validations: int = 1
    """Validations an epoch, evenly spread; each may find a new best."""
    limit_train_batches: int | None = None
    """Batches a training epoch at the most (for smoke tests)."""
    limit_val_batches: int | None = None
    """Batches a validation at the most (for smoke tests)."""
    limit_test_batches: int | None = None
    """Batches a test at the most (for smoke tests)."""
    logger: tuple[Logger, ...] = ("tensorboard",)
    """Where metrics go besides metrics.csv, which is always written; csv alone: nowhere else. wandb and mlflow (to
    MLFLOW_TRACKING_URI, else to a file in the run directory) need the extra `loggers`."""
    compile: bool = False
    """Compile the model with torch.compile."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        hints = get_type_hints(cls)
        annotations = dict(inspect.get_annotations(cls))
        known = {f.name: f.type for base in reversed(cls.__mro__[1:]) if is_dataclass(base) for f in fields(base)}
        constants = [name for name, hint in hints.items() if hint is ClassVar or get_origin(hint) is ClassVar]
        for name, value in vars(cls).items():
            if name.startswith("_") or name in annotations or name in constants or _is_method(value):
                continue
            if name not in known:
                hint = did_you_mean(name, [*known, *constants])
                raise TypeError(f"{cls.__name__}.{name} is no field.{hint} (A new field needs an annotation.)")
            annotations[name] = known[name]
        inherited: list[str] = []
        if len(cls.__bases__) > 1:  # dataclass would take the last base's defaults; Python's own order is meant
            inherited = [name for name in known if name not in annotations and hasattr(cls, name)]
            for name in inherited:
                setattr(cls, name, getattr(cls, name))
                annotations[name] = known[name]
        # Resolved types, not strings: a subclass's module need not import the names that its base's annotations use.
        cls.__annotations__ = {name: hints.get(name, kind) for name, kind in annotations.items()}
        dataclass(frozen=True, kw_only=True)(cls)
        for name in inherited:  # for dataclass's eyes only: they would hide what a later base of a subclass overrides
            delattr(cls, name)
        if search := vars(cls).get("search"):
            cls.search = search.checked(cls())

    def __post_init__(self) -> None:
        limits = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "patience")
        for name in ("max_epochs", "batch_size", "accumulate", "num_nodes", "validations", *limits):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: at least 1.")
        for name in ("seed", "num_workers", "grad_clip"):
            if (value := getattr(self, name)) is not None and not value >= 0:
                raise InputError(f"--{name.replace('_', '-')} {value}: cannot be negative.")
        for name in ("dropout", "drop_path", "label_smoothing"):  # of the families that have them
            value = getattr(self, name, 0.0)
            if isinstance(value, int | float) and not 0 <= value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: from 0 to below 1.")
        if self.averaging == "swa" and self.max_epochs is not None and self.max_epochs < 4:
            raise InputError(
                f"--averaging swa: averages the last quarter of the epochs; {self.max_epochs} are too few. "
                "--max-epochs 4 or more, or --averaging ema."
            )

    def check(self) -> None:
        """Raise an InputError for what can be told of the user's data before torch is imported, which takes seconds."""
        if self.data_dir is not None and not self.data_dir.exists():
            raise InputError(f"--data-dir {self.data_dir}: no such file or folder.")

    def resolve(self) -> Self:
        """Return the experiment with what this machine lacks replaced; the change is shown and recorded."""
        return self

    def sized(self, rows: int, devices: int) -> Self:
        """Return the experiment as it suits so many training examples, shared by so many devices.

        Called when a run's data are set up; what it changes is shown and recorded. What is sized stays as it is.

        Raises:
            InputError: `max_epochs` is None, and no subclass says what that means.
        """
        if self.max_epochs is None:
            raise InputError(f"--max-epochs None: {type(self).__name__} does not say how many then. Give a number.")
        return self

    def for_inference(self, run: Path) -> Self:
        """Return the experiment as prediction builds it again: from the run directory alone, without first weights."""
        return replace(self, weights="none")

    def datamodule(self) -> DataModule:
        """Build the data. Must not read anything yet: `setup` does."""
        raise InputError(f"{type(self).__name__} has no datamodule(): it is a base for other experiments.")

    def task(self, spec: DataSpec) -> Task:
        """Build the model and its training. Receives the data's spec only, so that prediction needs no data."""
        raise InputError(f"{type(self).__name__} has no task(): it is a base for other experiments.")

    def objective(self, spec: DataSpec) -> Objective:
        """Return what is predicted. The bases below give one for each kind of target."""
        raise InputError(f"{type(self).__name__} has no objective(): derive it from ClassificationExperiment, say.")

    def callbacks(self) -> list[Callback]:
        """Return further Lightning callbacks for the training."""
        return []

    def trainer_kwargs(self) -> dict[str, Any]:
        """Return further arguments of `lightning.Trainer`: loggers, callbacks and plugins come on top of Leyden's own
        (a CheckpointIO takes the place of ours), any other argument wins over the fields. Called for each Trainer.
        """
        return {}

    @classmethod
    def dotted_name(cls) -> str:
        return f"{cls.__module__}.{cls.__qualname__}"

    def to_json(self) -> dict[str, Any]:
        """Return every field as JSON types; `from_json` reads it back."""
        return {name: to_json(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build from what `to_json` returned.

        Raises:
            InputError: a field that the class does not have (the run is of another version of the code).
        """
        return from_json(cls, values)


class ClassificationExperiment(Experiment):
    """Base of the experiments that predict one class of an example."""

    predicts: ClassVar[TargetKind] = "single_label"

    label_smoothing: float = 0.0
    """Share of each target that is spread over all classes."""
    imbalance: Imbalance = "none"
    """Against rare classes, in training alone: weights or sampler (all classes count alike), focal (hard examples count
    more), logit_adjust (Menon et al. 2021). Metrics, validation loss and the choice of the best stay as they are."""

    def objective(self, spec: DataSpec) -> SingleLabel:
        from src.tasks.objectives import SingleLabel

        return SingleLabel(spec, label_smoothing=self.label_smoothing)


class MultiLabelExperiment(Experiment):
    """Base of the experiments that predict any number of labels of an example."""

    predicts: ClassVar[TargetKind] = "multi_label"
    monitor = "val/map"
    mode = "max"

    def objective(self, spec: DataSpec) -> MultiLabel:
        from src.tasks.objectives import MultiLabel

        return MultiLabel(spec)


class RegressionExperiment(Experiment):
    """Base of the experiments that predict a number."""

    predicts: ClassVar[TargetKind] = "regression"
    monitor = "val/rmse"

    loss: Literal["mse", "mae", "huber", "quantile", "gaussian"] = "mse"
    """What the training minimises. The last two give an interval along with the prediction."""
    interval: float = 0.9
    """Share of the targets that should lie in the interval."""

    def objective(self, spec: DataSpec) -> Regression:
        from src.tasks.objectives import Regression

        return Regression(spec, loss=self.loss, interval=self.interval)


__all__ = [
    "Accelerator",
    "Augment",
    "Averaging",
    "Boosting",
    "ClassificationExperiment",
    "Columns",
    "Csv",
    "DataSpec",
    "Experiment",
    "Imbalance",
    "InputError",
    "Logger",
    "MultiLabelExperiment",
    "Neighbours",
    "Optim",
    "Perceptron",
    "Recurrent",
    "RegressionExperiment",
    "Search",
    "TablePrep",
    "Target",
    "TargetKind",
    "Terms",
    "TextPrep",
    "Views",
    "Vocabulary",
    "choice",
    "field",
    "from_json",
    "log",
    "replace",
    "uniform",
]
