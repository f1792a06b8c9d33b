"""An experiment: one short typed class whose fields are its command-line flags and whose methods build its parts.

Read this file first. It imports nothing heavy, so that `--help` and a mistyped flag answer at once.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType, NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Self,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from src.datamodules import DataModule
    from src.tasks import Task

Accelerator = Literal["auto", "cpu", "gpu", "tpu", "mps"]
Averaging = Literal["none", "ema", "swa"]
Imbalance = Literal["none", "weights", "sampler", "focal", "logit_adjust"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
Views = Literal["one", "mirrored", "shifted"]


class InputError(Exception):
    """Something that the user can put right: the message names the file, flag or field and the way out."""


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ' Did you mean X?' for the known word nearest to `word`, else ''."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The number that a regression predicts, and its scale, fitted on the training split."""

    name: str = ""
    """Column of the target."""
    log: bool = False
    """The model sees the logarithm."""
    mean: float = 0.0
    """Of the targets, or of their logarithms: the model sees (target - mean) / std."""
    std: float = 1.0
    """Of the same."""


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """All that a model and a task may know of the data. Saved in the run, so that prediction needs no data."""

    classes: tuple[str, ...] = ()
    """Class names; position is the target's value."""
    class_counts: tuple[int, ...] = ()
    """Training examples of each class."""
    input_shape: tuple[int, ...] = ()
    """One example without the batch: for pictures (channels, height, width), for texts (most tokens,)."""
    vocab_size: int = 0
    """Tokens that the tokenizer knows."""
    pad_id: int = 0
    """Token that fills up the shorter texts of a batch; a mask says where."""
    unknown_id: int = 0
    """Token for what the tokenizer does not know."""
    vectors: str = ""
    """Array file with a pretrained vector for each token, NaN where there is none; for training only."""
    numbers: int = 0
    """Numbers that describe a row of a table."""
    categories: tuple[int, ...] = ()
    """For each category of a row, how many values it has; value 0 stands for what training had not."""
    bins: tuple[tuple[float, ...], ...] = ()
    """For each number the edges of its bins, where the model asks for them; quantiles of the training split."""
    target: Target = Target()
    """What a regression predicts."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Optimiser and learning-rate schedule, one value. Built by `src/tasks/base.py`."""

    name: str = "adamw"
    """Optimiser: adamw, adam and sgd are torch's own; else one of timm's, such as lamb, lion or nadamw."""
    lr: float = 1e-3
    """Peak learning rate: that of the head where `layer_decay` lowers it for the layers below."""
    weight_decay: float = 0.01
    """Decay of weight matrices and kernels; norms and biases are never decayed."""
    momentum: float = 0.9
    """Momentum of sgd and of those of timm's that have one; adam and adamw do not read it."""
    layer_decay: float = 1.0
    """Factor on the rate for each layer group further from the head (ULMFiT, Howard & Ruder 2018, 3.2)."""
    unfreeze: bool = False
    """Train the head alone in the first epoch, and one more layer group in each further one (ULMFiT, 3.3)."""
    schedule: Literal["cosine", "linear", "step", "constant", "one_cycle"] = "cosine"
    """Course of the rate after the warm-up: to zero by cosine or line, by steps, or none. one_cycle is linear, with the
    momentum running the other way, from 0.95 to 0.85 and back (Smith & Topin 2018, arXiv 1708.07120)."""
    warmup: float = 0.0
    """Share of all steps over which the rate rises linearly from zero."""
    step_share: float = 0.33
    """Share of all steps between two drops of the step schedule."""
    step_factor: float = 0.1
    """Factor of each drop of the step schedule."""
    l1: float = 0.0
    """Weight of the L1 penalty on what weight decay would act on."""

    def __post_init__(self) -> None:
        for name, low, high in (("warmup", 0, 1), ("layer_decay", 0, 1), ("step_share", 0, 1), ("momentum", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"--optim.{name.replace('_', '-')} {getattr(self, name)}: between {low} and {high}.")
        for name in ("lr", "weight_decay", "l1", "step_factor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"--optim.{name.replace('_', '-')} {getattr(self, name)}: a number from 0 on.")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of a training picture, by torchvision's v2 transforms; drawn anew from (seed, epoch, picture), or,
    where pictures of a batch are mixed, from (seed, epoch, step, process).
    """

    crop: tuple[float, float] = (0.6, 1.0)
    """Least and greatest share of the area that a random resized crop keeps; 1 1 crops nothing."""
    flip: bool = True
    """Mirror left to right, every second picture."""
    rotation: float = 0.0
    """Turn by up to so many degrees either way."""
    colour: float = 0.0
    """Change brightness, contrast and saturation by up to this share."""
    randaugment: tuple[int, int] = (0, 9)
    """RandAugment: how many operations, and how strong of 30 (Cubuk et al. 2020, arXiv 1909.13719: 2 9)."""
    erasing: float = 0.0
    """Share of the pictures of which a rectangle is made grey (Zhong et al. 2020, arXiv 1708.04896: 0.5)."""
    mixup: float = 0.0
    """Blend each picture and its target with another's, by shares of Beta(mixup, mixup); 0 does not (Zhang et al. 2018,
    arXiv 1710.09412: 0.2)."""
    cutmix: float = 0.0
    """Put a rectangle of another picture into each, of an area of Beta(cutmix, cutmix) (Yun et al. 2019, arXiv
    1905.04899: 1). With both, a batch has either at even odds."""

    def __post_init__(self) -> None:
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise InputError(
                f"--augment.crop {self.crop[0]} {self.crop[1]}: two shares with 0 < least <= greatest <= 1."
            )
        for name in ("rotation", "colour", "mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"--augment.{name} {getattr(self, name)}: a number from 0 on.")
        operations, strength = self.randaugment
        if operations < 0 or not 0 <= strength <= 30:
            raise InputError(f"--augment.randaugment {operations} {strength}: so many operations, and from 0 to 30.")
        if not 0 <= self.erasing <= 1:
            raise InputError(f"--augment.erasing {self.erasing}: a share from 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class TextPrep:
    """How texts are cleaned, cut and put into batches."""

    strip_html: bool = False
    """Put a blank in place of each HTML tag."""
    max_length: int = 256
    """Most tokens of a text that the model sees."""
    truncation: Literal["head", "head_tail"] = "head_tail"
    """What is kept of a longer text: its head, or a quarter from its head and the rest from its tail."""
    padding: Literal["like_length", "max_length"] = "like_length"
    """Batches of like length, each padded to its longest; or in any order, all padded to max_length."""
    max_tokens: int | None = None
    """In place of batch_size: as many texts a batch as stay within so many tokens."""

    def __post_init__(self) -> None:
        for name, value in (("max_length", self.max_length), ("max_tokens", self.max_tokens)):
            if value is not None and value < 1:
                raise InputError(f"--prep.{name.replace('_', '-')} {value}: at least 1.")
        if self.max_tokens is not None and self.padding == "max_length":
            raise InputError(f"--prep.max-tokens {self.max_tokens}: give --batch-size where --prep.padding max_length.")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The tokens that texts are made of, and the vectors that they start with."""

    tokenizer: str = "word"
    """word or wordpiece, trained on the training texts; or a folder with tokenizer.json, or an encoder's name."""
    size: int = 20_000
    """Most tokens of a trained tokenizer."""
    vectors: str = "none"
    """Start of the embedding: own (co-occurrences in the training texts), none (random), or a GloVe-like text file."""
    width: int = 128
    """Numbers of a vector."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Kinds of a table's columns, where they are not to be inferred."""

    number: tuple[str, ...] = ()
    """Columns of numbers."""
    category: tuple[str, ...] = ()
    """Columns of categories, such as a zip code, however they are written."""
    date: tuple[str, ...] = ()
    """Columns of dates: the model sees year, month, day of the week and of the year, and the days passed."""
    ignored: tuple[str, ...] = ()
    """Columns that the model must not see."""
    group: str = ""
    """Rows with the same value here stay in one split and one fold; the model does not see it."""


@dataclass(frozen=True, kw_only=True)
class TablePrep:
    """How a table's numbers are scaled; fitted on the training split alone."""

    numbers: Literal["standard", "quantile", "log", "none"] = "standard"
    """To mean 0 and deviation 1, as they are or after the signed logarithm; to a normal distribution; or not at all."""
    clip: float = 0.0
    """Cut numbers beyond this share of the training rows at either end, so that a network need not extrapolate."""
    target: Literal["standard", "log", "none"] = "standard"
    """The target of a regression; predictions and metrics are in the table's own units all the same."""

    def __post_init__(self) -> None:
        if not 0 <= self.clip < 0.5:
            raise InputError(f"--prep.clip {self.clip}: from 0 to below 0.5.")


@dataclass(frozen=True, kw_only=True)
class Perceptron:
    """A multilayer perceptron for tables."""

    width: int = 256
    """Of each hidden layer."""
    depth: int = 2
    """Hidden layers."""
    residual: bool = False
    """Each layer adds to what comes in, normalised (Gorishniy et al. 2021, arXiv 2106.11959, section 3.2)."""
    dropout: float = 0.1
    """After each hidden layer."""
    category_width: int = 8
    """Numbers that a category's value becomes, at the most."""
    bins: int = 0
    """Piecewise-linear encoding of each number in so many bins (Gorishniy et al. 2022, arXiv 2203.05556); 0: none."""
    bins_width: int = 16
    """Numbers that each binned number becomes."""

    def __post_init__(self) -> None:
        for name in ("width", "depth", "category_width", "bins_width"):
            if getattr(self, name) < 1:
                raise InputError(f"--mlp.{name.replace('_', '-')} {getattr(self, name)}: at least 1.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"--mlp.dropout {self.dropout}: from 0 to below 1.")
        if self.bins < 0 or self.bins == 1:
            raise InputError(f"--mlp.bins {self.bins}: 0 for none, or at least 2.")


@dataclass(frozen=True, kw_only=True)
class Recurrent:
    """A recurrent network for texts: its layers, what is made of their states, and its dropouts."""

    hidden: int = 64
    """Width of each layer and direction."""
    layers: int = 1
    """Layers, one over the other."""
    bidirectional: bool = True
    """Read each text backwards too."""
    pooling: tuple[Literal["last", "mean", "max", "attention"], ...] = ("mean", "max")
    """What is made of a text's states; several are joined. last: the state at the end of the reading."""
    word_dropout: float = 0.0
    """Share of the words hidden in training."""
    embedding_dropout: float = 0.0
    """Share of the embedding's columns dropped for a whole text (Gal & Ghahramani 2016, arXiv 1512.05287)."""
    recurrent_dropout: float = 0.0
    """Share of the recurrent weights dropped for a batch (Merity et al. 2018, arXiv 1708.02182, section 2)."""
    dropout: float = 0.0
    """On the pooled features, before the head."""

    def __post_init__(self) -> None:
        for name in ("word_dropout", "embedding_dropout", "recurrent_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--lstm.{name.replace('_', '-')} {getattr(self, name)}: from 0 to below 1.")
        if not self.pooling:
            raise InputError("--lstm.pooling: name one at least of last, mean, max, attention.")


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Base of all experiments. A subclass overrides fields by plain assignment (`max_epochs = 3`), adds its own with
    an annotation and a docstring, and builds its parts in `datamodule` and `task`. A bare name that is no field is
    refused when the class is made.
    """

    monitor: ClassVar[str] = "val/loss"
    """Validation metric that chooses the best checkpoint and stops early."""
    mode: ClassVar[Literal["min", "max"]] = "min"
    """Whether less or more of `monitor` is better."""

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
    max_epochs: int = 10
    """Passes over the training data."""
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
    """How several devices share the work: auto, ddp, ddp_spawn, fsdp, deepspeed, ..."""
    precision: Precision = "auto"
    """Arithmetic; auto takes bf16-mixed where the device has it in hardware, else 32-true; on a CPU whose flags do not
    tell, what a few steps show to be faster."""
    grad_clip: float | None = None
    """Greatest norm of the gradient."""
    accumulate: int = 1
    """Batches whose gradients are added before a step."""
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

    def __post_init__(self) -> None:
        limits = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "patience")
        for name in ("max_epochs", "batch_size", "accumulate", "num_nodes", "validations", *limits):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: at least 1.")
        for name in ("seed", "num_workers", "grad_clip"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"--{name.replace('_', '-')} {value}: cannot be negative.")
        for name in ("dropout", "drop_path", "label_smoothing"):  # of the families that have them
            value = getattr(self, name, 0.0)
            if isinstance(value, int | float) and not 0 <= value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: from 0 to below 1.")
        if self.averaging != "none" and self.strategy.startswith(("fsdp", "deepspeed")):
            raise InputError(f"--averaging {self.averaging}: --strategy {self.strategy} divides the weights.")
        if self.averaging == "swa" and self.max_epochs < 4:
            raise InputError(
                f"--averaging swa: averages the last quarter of the epochs; {self.max_epochs} are too few. "
                "--max-epochs 4 or more, or --averaging ema."
            )

    def resolve(self) -> Self:
        """Return the experiment with what cannot be had on this machine replaced; the change is shown and recorded."""
        return self

    def restored(self, run: Path) -> Self:
        """Return the experiment as prediction builds it again: from the run directory alone, without first weights."""
        return replace(self, weights="none")

    def datamodule(self) -> DataModule:
        """Build the data. Must not read anything yet: `setup` does."""
        raise InputError(f"{type(self).__name__} has no datamodule(): it is a base for other experiments.")

    def task(self, spec: DataSpec) -> Task:
        """Build the model and its training. Receives the data's spec only, so that prediction needs no data."""
        raise InputError(f"{type(self).__name__} has no task(): it is a base for other experiments.")

    def callbacks(self) -> list[Callback]:
        """Return further Lightning callbacks for the training."""
        return []

    def trainer_kwargs(self) -> dict[str, Any]:
        """Return further arguments of `lightning.Trainer`; they win over the fields."""
        return {}

    @classmethod
    def dotted_name(cls) -> str:
        return f"{cls.__module__}.{cls.__qualname__}"

    def to_json(self) -> dict[str, Any]:
        """Return every field as JSON types; `from_json` reads it back."""
        return {name: _to_json(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build from what `to_json` returned.

        Raises:
            InputError: a field that the class does not have (the run is of another version of the code).
        """
        return from_json(cls, values)


class ClassificationExperiment(Experiment):
    """Base of the experiments that predict a class. `runner.build_parts` hands its field to the data and to the task,
    so that a subclass need not.
    """

    imbalance: Imbalance = "none"
    """Against rare classes, in training alone: weights or sampler (all classes count alike), focal (hard examples count
    more), logit_adjust (Menon et al. 2021). Metrics, validation loss and the choice of the best stay as they are."""


def _to_json(value: Any) -> Any:
    """Turn paths into strings, in tuples and nested dataclasses too."""
    if isinstance(value, dict):
        return {name: _to_json(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _is_method(value: object) -> bool:
    return isinstance(value, FunctionType | classmethod | staticmethod | property)


def from_json(kind: Any, value: Any) -> Any:
    """Turn a JSON value into the field type `kind`: dataclass, tuple, path, an optional one of these, or as it is."""
    if get_origin(kind) in (Union, UnionType):
        if value is None:
            return None
        kind = next((arm for arm in get_args(kind) if arm is not NoneType), kind)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        if unknown := sorted(value.keys() - {f.name for f in fields(kind)}):
            raise InputError(
                f"{kind.__module__}.{kind.__qualname__} has no field {unknown[0]}: the record is of another version of "
                "the code."
            )
        return kind(**{name: from_json(hints[name], item) for name, item in value.items()})
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return tuple(from_json(item, part) for part in value)
    return Path(value) if kind is Path else value


def load(target: str) -> type[Experiment]:
    """Turn `experiments/x.py`, `experiments/x.py:Name` or `experiments.x.Name` into the class.

    The file is imported as the module `experiments.x`, never by location: a second class object would not unpickle in
    spawned workers.

    Raises:
        InputError: no such file or class, no DEFAULT, or the file does not import.
    """
    if target.endswith(".py") or ".py:" in target:
        path, _, name = target.partition(":")
        module = _import_file(Path(path))
    else:
        dotted, _, name = target.rpartition(".")
        if not dotted:
            raise InputError(f"{target}: no such experiment. Name its file: experiments/<file>.py[:Name].")
        module = _import(dotted, target)
    found = {v.__name__: v for v in vars(module).values() if _is_experiment(v) and v.__module__ == module.__name__}
    if not name:
        default: Any = getattr(module, "DEFAULT", None)
        if not _is_experiment(default):
            raise InputError(
                f"{target}: sets no DEFAULT = <Experiment>. Name one: {target}:{'|'.join(found) or 'Name'}"
            )
        return default
    if name not in found:
        raise InputError(f"{target}: no experiment {name}.{did_you_mean(name, [*found])} There: {', '.join(found)}.")
    return found[name]


def _is_experiment(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Experiment)


def _import_file(path: Path) -> ModuleType:
    root = Path(__file__).resolve().parents[1]
    if not path.is_file():
        near = did_you_mean(str(path), [str(p.relative_to(root)) for p in root.glob("experiments/*.py")])
        raise InputError(f"{path}: no such experiment file.{near} All: ls experiments")
    try:
        dotted = ".".join(path.resolve().relative_to(root).with_suffix("").parts)
    except ValueError:
        raise InputError(f"{path}: experiments live in {root}/experiments; move or copy the file there.") from None
    return _import(dotted, str(path))


def _import(dotted: str, shown: str) -> ModuleType:
    try:
        return importlib.import_module(dotted)
    except InputError:
        raise
    except SyntaxError as error:
        raise InputError(f"{error.filename}:{error.lineno}: {error.msg}: {(error.text or '').strip()}") from error
    except Exception as error:
        where = _line_in(dotted, error)
        raise InputError(f"{shown}{where}: {type(error).__name__}: {error}") from error


def _line_in(dotted: str, error: Exception) -> str:
    """Return ':<line>' of the deepest frame of `error` within the module, '' where there is none."""
    line, trace = "", error.__traceback__
    while trace:
        if trace.tb_frame.f_globals.get("__name__") == dotted:
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line


__all__ = [
    "Accelerator",
    "Augment",
    "Averaging",
    "ClassificationExperiment",
    "Columns",
    "DataSpec",
    "Experiment",
    "Imbalance",
    "InputError",
    "Optim",
    "Perceptron",
    "Recurrent",
    "TablePrep",
    "Target",
    "TextPrep",
    "Views",
    "Vocabulary",
    "field",
    "from_json",
    "load",
    "replace",
]
