"""Experiment classes: which fields they have, what is refused when one is made, records of them, and `load`."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import multiprocessing
import operator
import pickle
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cats_dogs_finetune import CatsDogs, CatsDogsFinetune, CatsDogsProbe
from experiments.images import Images
from src.experiment import Augment, DataSpec, Experiment, InputError, Optim, field, replace
from src.loading import load

ROOT = Path(__file__).resolve().parents[1]


def types(kind: type[Experiment]) -> dict[str, Any]:
    """Return field -> type; the root class's own are strings, everything below it has them resolved."""
    hints = get_type_hints(kind)
    return {
        field.name: hints[field.name] if isinstance(field.type, str) else field.type
        for field in dataclasses.fields(kind)
    }


# --------------------------------------------------------------------------------------------------------------- fields
class Rich(Experiment):
    """A field of each kind that experiments have."""

    optim: Optim = Optim(lr=0.5)
    """Nested."""
    augment: Augment = Augment(crop=(0.5, 0.75))
    """Nested, with a tuple."""
    shape: tuple[int, ...] = (1, 2)
    """A tuple."""
    folder: Path = Path("here")
    """A path."""
    width: Literal["narrow", "wide"] = "narrow"
    """A choice."""


def test_a_bare_override_keeps_the_resolved_type() -> None:
    class Mine(Rich):
        max_epochs = 3
        data_dir = Path("there")
        patience = 7
        optim = Optim(lr=2.0)

    assert types(Mine) == types(Rich)
    assert types(Mine)["max_epochs"] == int | None
    assert types(Mine)["data_dir"] == Path | None
    assert types(Mine)["patience"] == int | None
    assert types(Mine)["optim"] is Optim
    assert types(Mine)["shape"] == tuple[int, ...]
    assert not any(isinstance(hint, str) for hint in vars(Mine)["__annotations__"].values())
    assert (Mine().max_epochs, Mine().data_dir, Mine().patience, Mine().optim.lr) == (3, Path("there"), 7, 2.0)
    assert Rich().max_epochs == Experiment().max_epochs == 10


def test_an_override_does_not_need_the_names_of_the_bases_annotations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that imports neither Path nor Optim may override fields of these types."""
    space: dict[str, Any] = {"Rich": Rich, "__name__": "bare_module"}
    monkeypatch.setitem(sys.modules, "bare_module", type(sys)("bare_module"))
    exec("class Mine(Rich):\n    data_dir = None\n    optim = Rich().optim\nclass Below(Mine):\n    seed = 4", space)
    assert types(space["Below"]) == types(Rich)


def test_a_typo_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(TypeError, match=r"Mine\.max_epcohs is no field\. Did you mean max_epochs\?"):

        class Mine(Experiment):
            max_epcohs = 3

    with pytest.raises(TypeError, match=r"Did you mean monitor\?"):

        class Yours(Images):
            monitr = "val/acc"


def test_a_new_field_needs_an_annotation() -> None:
    with pytest.raises(TypeError, match=r"Mine\.zzz is no field\. \(A new field needs an annotation\.\)"):

        class Mine(Experiment):
            zzz = 3

    class Yours(Experiment):
        zzz: int = 3
        """Flag of its own."""

    class Below(Yours):
        zzz = 4

    assert types(Below)["zzz"] is int
    assert (Yours().zzz, Below().zzz, Below(zzz=5).zzz) == (3, 4, 5)


def test_methods_private_names_and_properties_are_no_fields() -> None:
    class Mine(Experiment):
        _private = 3

        def method(self) -> int:
            return self.seed

        @property
        def double(self) -> int:
            return 2 * self.seed

        @classmethod
        def kind(cls) -> str:
            return cls.__name__

        @staticmethod
        def one() -> int:
            return 1

    assert types(Mine) == types(Experiment)
    assert (Mine(seed=2).method(), Mine(seed=2).double, Mine.kind(), Mine.one()) == (2, 4, "Mine", 1)


def test_a_constant_is_overridden_and_is_no_field() -> None:
    class Mine(Experiment):
        monitor = "val/acc"
        mode = "max"
        steps: ClassVar[int] = 3

    class Below(Mine):
        steps = 4

    assert (Mine.monitor, Mine.mode, Mine.steps, Below.steps, Below().monitor) == ("val/acc", "max", 3, 4, "val/acc")
    assert Experiment.monitor == "val/loss"
    assert types(Below) == types(Experiment)
    made: Any = Mine
    assert made(monitor="val/f1").monitor == "val/f1"
    with pytest.raises(TypeError, match="steps"):
        made(steps=5)


def test_a_constant_without_a_type_is_overridden_too() -> None:
    class Mine(Experiment):
        steps: ClassVar = 3

    class Below(Mine):
        steps = 4

    assert Below.steps == 4
    assert types(Below) == types(Experiment)


def test_frozen() -> None:
    experiment: Any = Rich()
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.max_epochs = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.no_such = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        del experiment.optim.lr
    assert hash(Rich()) == hash(Rich())
    assert Rich() == Rich() != Rich(seed=1)


def test_keyword_only() -> None:
    kind: Any = Rich
    with pytest.raises(TypeError, match="positional"):
        kind(0)
    with pytest.raises(TypeError, match="max_epcohs"):
        kind(max_epcohs=3)
    assert replace(kind(seed=3), max_epochs=2) == kind(max_epochs=2, seed=3)


@pytest.mark.parametrize("name", ["max_epochs", "batch_size", "accumulate", "num_nodes"])
def test_counts_are_at_least_one(name: str) -> None:
    fields: dict[str, Any] = {name: 0}
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} 0: at least 1"):
        Rich(**fields)


def test_a_base_says_that_it_is_one() -> None:
    with pytest.raises(InputError, match=r"Rich has no datamodule\(\)"):
        Rich().datamodule()
    with pytest.raises(InputError, match=r"Rich has no task\(\)"):
        Rich().task(DataSpec())
    assert Rich().resolve() == Rich()
    assert Rich().trainer_kwargs() == {}


# ------------------------------------------------------------------------------------------------- several base classes
def test_cats_dogs_finetune_takes_the_data_of_one_base_and_the_recipe_of_the_other() -> None:
    assert [kind.__name__ for kind in CatsDogsFinetune.__mro__[:3]] == ["CatsDogsFinetune", "CatsDogs", "ImageClasses"]
    assert CatsDogsFinetune().optim == Images().optim != CatsDogs().optim
    for name in ("weights", "max_epochs", "patience", "backbone", "frozen"):
        assert getattr(CatsDogsFinetune(), name) == getattr(Images(), name)
    assert CatsDogsFinetune.datamodule is CatsDogs.datamodule
    assert CatsDogsProbe().frozen == Images().frozen
    assert CatsDogsProbe().optim.layer_decay == 1.0


NAMES = ("seed", "max_epochs", "batch_size", "depth")
FAMILY: dict[str, tuple[str, ...]] = {
    "Left": ("Base",),
    "Right": ("Base",),
    "Both": ("Left", "Right"),
    "Below": ("Both",),
    "Third": ("Base",),
    "All": ("Both", "Third"),
    "Last": ("Below", "Third"),
}
"""A diamond, a subclass of it, and diamonds on top of these."""


class Base(Experiment):
    """Root of the drawn families."""

    depth: int = 1
    """A field that the base class does not have."""


@settings(deadline=None, max_examples=50)
@given(st.fixed_dictionaries({name: st.sets(st.sampled_from(NAMES)) for name in FAMILY}))
def test_inheritance_follows_pythons_own_order(overridden: dict[str, set[str]]) -> None:
    """Each class overrides some fields by its own number; a family of plain classes is the model."""
    plain: dict[str, type] = {"Base": type("Base", (), {name: getattr(Base(), name) for name in NAMES})}
    drawn: dict[str, Any] = {"Base": Base}
    for value, (name, bases) in enumerate(FAMILY.items(), start=100):
        body = dict.fromkeys(overridden[name], value)
        plain[name] = type(name, tuple(plain[base] for base in bases), dict(body))
        drawn[name] = type(name, tuple(drawn[base] for base in bases), {"__module__": __name__, **body})
        expected = {field: getattr(plain[name], field) for field in NAMES}
        assert {field: getattr(drawn[name](), field) for field in NAMES} == expected, name
        assert {field: getattr(drawn[name], field) for field in NAMES} == expected, name


class WithFactory(Experiment):
    """A field whose default is made anew for each instance."""

    names: list[str] = field(default_factory=lambda: ["a"])
    """Mutable."""


class OtherBase(Experiment):
    """The second base."""

    seed = 5


def test_several_bases_and_a_default_factory() -> None:
    class Mine(WithFactory, OtherBase):
        max_epochs = 2

    assert (Mine().names, Mine().seed, Mine().max_epochs) == (["a"], 5, 2)
    assert Mine().names is not Mine().names


# -------------------------------------------------------------------------------------------------------------- records
def floats(low: float | None = None, high: float | None = None) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


shares = floats(0.0, 1.0)
paths = st.text(min_size=1).map(Path)
optims = st.builds(
    Optim,
    name=st.sampled_from(["adamw", "adam", "sgd"]),
    lr=floats(0.0),
    weight_decay=floats(0.0),
    momentum=shares,
    layer_decay=shares,
    schedule=st.sampled_from(["cosine", "linear", "step", "constant"]),
    warmup=shares,
    step_share=shares,
    step_factor=floats(0.0),
    l1=floats(0.0),
)
augments = st.builds(
    Augment,
    crop=st.tuples(floats(0.01, 1.0), floats(0.01, 1.0)).map(lambda pair: (min(pair), max(pair))),
    flip=st.booleans(),
    rotation=floats(0.0),
    colour=floats(0.0),
)
riches = st.builds(
    Rich,
    seed=st.integers(0),
    data_dir=st.none() | paths,
    source=st.text(),
    weights=st.text(),
    max_epochs=st.integers(1),
    batch_size=st.integers(1),
    accelerator=st.sampled_from(["auto", "cpu", "gpu"]),
    grad_clip=st.none() | floats(0),
    patience=st.none() | st.integers(1),
    max_time=st.none() | st.text(),
    compile=st.booleans(),
    optim=optims,
    augment=augments,
    shape=st.lists(st.integers()).map(tuple),
    folder=paths,
    width=st.sampled_from(["narrow", "wide"]),
)


@settings(deadline=None)
@given(riches)
def test_json_round_trip(experiment: Rich) -> None:
    text = json.dumps(experiment.to_json())
    back = Rich.from_json(json.loads(text))
    assert back == experiment
    assert hash(back) == hash(experiment)
    assert json.dumps(back.to_json()) == text
    assert isinstance(back.optim, Optim)
    assert isinstance(back.augment.crop, tuple)


class Wide(Experiment):
    """Types that an experiment may well come to have."""

    maybe_augment: Augment | None = None
    """None means none."""
    maybe_shape: tuple[int, ...] | None = None
    """None means none."""
    folders: tuple[Path, ...] = ()
    """Several paths."""


@pytest.mark.parametrize(
    "experiment",
    [
        Wide(),
        Wide(maybe_augment=Augment(colour=0.5)),
        Wide(maybe_shape=(1, 2)),
        Wide(folders=(Path("a"), Path("b/c"))),
    ],
    ids=["none", "optional dataclass", "optional tuple", "tuple of paths"],
)
def test_json_round_trip_of_combined_types(experiment: Wide) -> None:
    assert Wide.from_json(json.loads(json.dumps(experiment.to_json()))) == experiment


def test_a_record_names_every_field_and_may_lack_some() -> None:
    assert set(Rich().to_json()) == set(types(Rich))
    assert Rich().to_json()["folder"] == "here"
    assert Rich.from_json({"seed": 3}) == Rich(seed=3)
    assert Rich.from_json({"optim": {"lr": 2.0}}).optim == Optim(lr=2.0)


def test_a_record_with_an_unknown_field() -> None:
    with pytest.raises(InputError, match=r"test_experiment\.Rich has no field lr_decay: .*another version"):
        Rich.from_json(Rich().to_json() | {"lr_decay": 3})


def test_a_record_with_an_unknown_field_further_down() -> None:
    with pytest.raises(InputError, match=r"no field .*gamma"):
        Rich.from_json({"optim": {"lr": 1.0, "gamma": 0.9}})


# ----------------------------------------------------------------------------------------------------------------- load
Write = Callable[[str], Path]


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a file into experiments/, where `load` takes it from; it is gone, also as a module, after the test."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written: list[Path] = []

    def call(text: str) -> Path:
        path = ROOT / "experiments" / f"zz_{uuid.uuid4().hex}.py"
        path.write_text(text)
        written.append(path)
        importlib.invalidate_caches()
        return path

    yield call
    import experiments

    for path in written:
        path.unlink()
        sys.modules.pop(f"experiments.{path.stem}", None)
        if hasattr(experiments, path.stem):
            delattr(experiments, path.stem)


HEAD = "from __future__ import annotations\nfrom src.experiment import Experiment\n"
TWO = f"{HEAD}class First(Experiment):\n    seed = 1\nclass Second(First):\n    seed = 2\nDEFAULT = Second\n"


def test_load_by_file_by_name_and_dotted(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(TWO)
    default = load(str(path))
    assert default().seed == 2
    assert default.dotted_name() == f"experiments.{path.stem}.Second"
    assert load(f"{path}:Second") is load(f"experiments.{path.stem}.Second") is load(default.dotted_name()) is default
    assert load(f"{path}:First")().seed == 1
    monkeypatch.chdir(ROOT)
    assert load(f"experiments/{path.name}") is default
    monkeypatch.chdir(ROOT / "experiments")
    assert load(f"{path.name}:First") is load(f"{path}:First")
    assert load("../experiments/images.py") is Images


def test_an_imported_class_is_no_candidate(write: Write) -> None:
    path = write(f"from experiments.images import Images\n{HEAD.splitlines()[1]}\nclass Mine(Images):\n    seed = 1\n")
    with pytest.raises(InputError, match=r"no experiment Images\. .*There: Mine\."):
        load(f"{path}:Images")


def test_no_such_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=r"experiments/imags\.py: no such .* Did you mean experiments/images\.py\?"):
        load("experiments/imags.py")
    with pytest.raises(InputError, match=r"experiments/imags\.py: no such"):
        load("experiments/imags.py:Images")
    with pytest.raises(InputError, match=r"experiments: no such|experiments\.nope"):
        load("experiments.nope.Name")


@pytest.mark.parametrize("target", ["experiments/images", "images", "Images"])
def test_a_target_that_is_neither_file_nor_dotted(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=rf"{target}: no such experiment.*experiments"):
        load(target)


def test_no_default(write: Write) -> None:
    path = write(TWO.replace("DEFAULT", "default"))
    with pytest.raises(InputError, match=rf"{path.name}: sets no DEFAULT .*{path.name}:First\|Second"):
        load(str(path))
    assert load(f"{path}:First")().seed == 1
    path = write(f"{HEAD}DEFAULT = 3\n")
    with pytest.raises(InputError, match=rf"{path.name}: sets no DEFAULT"):
        load(str(path))
    path = write(f"{HEAD}DEFAULT = Experiment()\n")
    with pytest.raises(InputError, match=rf"{path.name}: sets no DEFAULT"):
        load(str(path))


def test_syntax_error(write: Write) -> None:
    path = write(f"{HEAD}\nclass Mine(Experiment:\n    pass\n")
    with pytest.raises(InputError, match=rf"{path}:4: .*class Mine\(Experiment:"):
        load(str(path))


def test_syntax_error_in_what_the_file_imports(write: Write) -> None:
    broken = write("x = (\n")
    path = write(f"{HEAD}from experiments import {broken.stem}\n")
    with pytest.raises(InputError, match=rf"{broken}:1"):
        load(str(path))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("1 / 0\n", 3, "ZeroDivisionError: division by zero"),
        ("\nimport no_such_module\n", 4, "ModuleNotFoundError: .*no_such_module"),
        ("class Mine(Experiment):\n    max_epcohs = 3\n", 3, "TypeError: Mine.max_epcohs is no field. Did you mean"),
        ("class Mine(Experiment):\n    depth: Sizes = 3\n", 3, "NameError: .*Sizes"),
        ("def deep():\n    raise KeyError('gone')\n\ndeep()\n", 4, "KeyError: 'gone'"),
        ("import json\njson.loads('{')\n", 4, "JSONDecodeError"),
    ],
)
def test_an_exception_on_import_names_the_line(write: Write, text: str, line: int, said: str) -> None:
    path = write(HEAD + text)
    with pytest.raises(InputError, match=rf"{path.name}:{line}: {said}"):
        load(str(path))
    assert f"experiments.{path.stem}" not in sys.modules


def test_unknown_class(write: Write) -> None:
    path = write(TWO)
    with pytest.raises(InputError, match=r"no experiment Frist\. Did you mean First\? There: First, Second\."):
        load(f"{path}:Frist")
    with pytest.raises(InputError, match=r"no experiment Frist\. Did you mean First\?"):
        load(f"experiments.{path.stem}.Frist")


def test_a_file_outside_the_checkout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zz_outside.py"
    path.write_text(TWO)
    with pytest.raises(InputError, match=rf"{path}: experiments live in {ROOT}/experiments"):
        load(str(path))
    assert "zz_outside" not in sys.modules


# ------------------------------------------------------------------------------------------------------ nested settings
@pytest.mark.parametrize("name", ["warmup", "layer_decay", "step_share", "momentum"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_optim_shares(name: str, value: float) -> None:
    fields: dict[str, Any] = {name: value}
    with pytest.raises(InputError, match=rf"--optim\.{name.replace('_', '-')} {value}: between 0 and 1"):
        Optim(**fields)
    kind: Any = Optim
    for allowed in (0.0, 1.0):
        assert getattr(kind(**{name: allowed}), name) == allowed


@pytest.mark.parametrize("name", ["lr", "weight_decay", "l1", "step_factor"])
@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf")])
def test_optim_sizes(name: str, value: float) -> None:
    kind: Any = Optim
    with pytest.raises(InputError, match=rf"--optim\.{name.replace('_', '-')} {value}: a number from 0 on"):
        kind(**{name: value})
    assert getattr(kind(**{name: 0.0}), name) == 0.0


@pytest.mark.parametrize("crop", [(0.0, 1.0), (-0.5, 1.0), (0.8, 0.5), (0.5, 1.5), (float("nan"), 1.0)])
def test_augment_crop(crop: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=rf"--augment\.crop {crop[0]} {crop[1]}: two shares"):
        Augment(crop=crop)
    assert Augment(crop=(1.0, 1.0)).crop == (1.0, 1.0)


@pytest.mark.parametrize("name", ["rotation", "colour", "mixup", "cutmix"])
@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf")])
def test_augment_sizes(name: str, value: float) -> None:
    """torchvision refuses some when the data are set up or an image is changed, without naming the flag."""
    kind: Any = Augment
    with pytest.raises(InputError, match=rf"--augment\.{name} {value}: a number from 0 on"):
        kind(**{name: value})


# ------------------------------------------------------------------------------------------------------------- pickling
def test_pickles_here_and_in_a_spawned_process(write: Write) -> None:
    """The same dotted class there and back, for an experiment that is loaded by its file."""
    own: Any = load(f"{write(TWO)}:Second")
    asked = [own(max_epochs=3), CatsDogsFinetune(data_dir=Path("there"), optim=Optim(lr=0.5))]
    for experiment in asked:
        assert pickle.loads(pickle.dumps(experiment)) == experiment
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        names = list(pool.map(operator.methodcaller("dotted_name"), asked))
        back = list(pool.map(copy.deepcopy, asked))
    assert names == [type(experiment).dotted_name() for experiment in asked]
    assert back == asked
    assert [type(experiment) for experiment in back] == [type(experiment) for experiment in asked]


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", -1), ("patience", 0), ("limit_val_batches", 0), ("num_workers", -1), ("grad_clip", -1.0)],
)
def test_values_outside_their_range_name_the_flag(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value}"):
        replace(Experiment(), **{name: value})
