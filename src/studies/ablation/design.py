"""Which variants of a recipe an ablation trains, what they are called, and how each is run alone."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from src.configs.changes import with_fields
from src.configs.errors import InputError
from src.configs.flags import flags
from src.configs.jsonable import to_json
from src.configs.neutral import left_out
from src.experiment import Experiment

Factors = tuple[str, ...]
"""Fields that are left out; `name=value` where a field has no value that means none. None of them: the full recipe."""


@dataclass(frozen=True)
class Ablation:
    """What is left out of a recipe, and over which seeds the results are compared.

    Raises:
        InputError: a field that is not there or cannot be left out; see `left_out`.
    """

    recipe: Experiment
    without: Factors
    """What is left out, one at a time."""
    seeds: tuple[int, ...] = (0, 1, 2)
    pairs: bool = False
    """Whether each two are left out together, too."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"--seeds {' '.join(map(str, self.seeds))}: name different ones, one or more.")
        if self.pairs and len(self.without) < 2:
            raise InputError("--pairs: name two fields or more with --without.")
        for seed in self.seeds:
            replace(self.recipe, seed=seed)
        self.variants()

    def variants(self) -> dict[Factors, Experiment]:
        """Return the full recipe, then the recipe without each field, then without each two."""
        values = left_out(self.recipe, self.without)
        found: dict[Factors, Experiment] = {(): self.recipe}
        for factors in itertools.chain(
            itertools.combinations(self.without, 1), itertools.combinations(self.without, 2) if self.pairs else ()
        ):
            names = [factor.partition("=")[0] for factor in factors]
            try:
                found[factors] = with_fields(self.recipe, {name: values[name] for name in names})
            except InputError as error:
                raise InputError(f"{label(factors)}: {error}") from error
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what is asked, for the record, with the value that each field has where it is left out."""
        values = {name: to_json(value) for name, value in left_out(self.recipe, self.without).items()}
        return {"without": [*self.without], "values": values, "seeds": [*self.seeds], "pairs": self.pairs}

    @classmethod
    def of(cls, recipe: Experiment, record: Mapping[str, Any]) -> Ablation:
        """Return the ablation of a parent's record."""
        asked = record["ablation"]
        return cls(recipe, tuple(asked["without"]), tuple(asked["seeds"]), asked["pairs"])


def label(factors: Sequence[str], name: Callable[[str], str] = str) -> str:
    """Return what a variant is called: 'without shift and flip, with optim.name=sgd'.

    Args:
        factors: what is left out.
        name: how a field's name is written.
    """
    without = " and ".join(name(one) for one in factors if "=" not in one)
    other = " and ".join(name(one) for one in factors if "=" in one)
    parts = [f"without {without}"] * bool(without) + [f"with {other}"] * bool(other)
    return ", ".join(parts) or "full recipe"


def run_name(factors: Factors, seed: int) -> str:
    """Return the name of the directory of a run: 'full-seed-0', 'without-augment.flip+optim.name-seed-0'."""
    names = "+".join(factor.partition("=")[0] for factor in factors)
    return f"{f'without-{names}' if names else 'full'}-seed-{seed}"


def command(experiment: Experiment, seed: int) -> str:
    """Return the command that runs an experiment with its fields and a seed."""
    module, _, name = experiment.dotted_name().rpartition(".")
    words = [*flags(experiment, without=("seed",)), "--seed", str(seed)]
    return f"python scripts/run.py {module.replace('.', '/')}.py:{name} {shlex.join(words)}"
