"""What a search varies: fields of an experiment, and the values that each may take.

search = Search({"optim.lr": log(1e-4, 1e-2), "mlp.width": choice(128, 256, 512)}, trials=60)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, get_args

from src.configs.changes import with_fields
from src.configs.errors import InputError

Value = bool | int | float | str | None
"""What a searched field holds."""
SamplerName = Literal["tpe", "random", "grid", "gp"]
PrunerName = Literal["median", "asha", "none"]


@dataclass(frozen=True)
class Domain:
    """The values of a field."""

    condition: tuple[str, tuple[Value, ...]] | None = None
    """Another field of the space and its values with which this one is searched; else it keeps its default."""

    def when(self, field: str, *values: Value) -> Self:
        """Return a domain that is searched only where `field`, a choice of the same space, has one of `values`."""
        return replace(self, condition=(field, values))

    def ends(self) -> tuple[Value, ...]:
        """Return values of the domain; where the field can have these, it can have all."""
        raise NotImplementedError

    def text(self) -> str:
        """Return the domain as --search takes it, and with which values of another field it is searched."""
        if self.condition is None:
            return self._values()
        field, values = self.condition
        return f"{self._values()}, where {field} is {' or '.join(map(str, values))}"

    def _values(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Range(Domain):
    """Numbers from `low` to `high`, both included: integers where the field is one."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    """Whether all orders of magnitude are as likely."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"{self.low}..{self.high}: the first has to be less than the second.")
        if self.log and not self.low > 0:
            raise InputError(f"{self.low}..{self.high}: on a logarithmic scale from above 0 on.")

    def ends(self) -> tuple[Value, ...]:
        return self.low, self.high

    def _values(self) -> str:
        return f"{self.low:g}..{self.high:g}{':log' if self.log else ''}"


@dataclass(frozen=True)
class Choice(Domain):
    """One of some values, in no order."""

    values: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.values)) < max(2, len(self.values)):
            raise InputError(f"choice of {', '.join(map(repr, self.values)) or 'nothing'}: two values or more.")

    def ends(self) -> tuple[Value, ...]:
        return self.values

    def _values(self) -> str:
        return ",".join(map(str, self.values))


def uniform(low: float, high: float) -> Range:
    """Return the numbers from `low` to `high`, all as likely."""
    return Range(low=low, high=high)


def log(low: float, high: float) -> Range:
    """Return the numbers from `low` to `high`, all orders of magnitude as likely."""
    return Range(low=low, high=high, log=True)


def choice(*values: Value) -> Choice:
    """Return these values, in no order."""
    return Choice(values=values)


@dataclass(frozen=True)
class Search:
    """A search for the best values of some of an experiment's fields.

    Raises:
        InputError: an empty space, or what no search can be done with.
    """

    space: Mapping[str, Domain]
    """Field, nested ones with a dot -> its values."""
    trials: int = 30
    """Runs, one a setting."""
    sampler: SamplerName = "tpe"
    """How settings are drawn: tpe (Bergstra et al. 2011; multivariate), random, grid, which tries each combination of
    choices, or gp, a Gaussian process."""
    pruner: PrunerName = "median"
    """Which trials end early: those below the median of the earlier ones at the same validation, those that asha
    (asynchronous successive halving, Li et al. 2020, arXiv 1810.05934) does not promote, or none."""

    def __post_init__(self) -> None:
        if not self.space:
            raise InputError("search: the space is empty. Name fields: optim.lr=1e-4..1e-2:log")
        if self.trials < 1:
            raise InputError(f"--trials {self.trials}: at least 1.")
        for name, value, known in (("sampler", self.sampler, SamplerName), ("pruner", self.pruner, PrunerName)):
            if value not in get_args(known):
                raise InputError(f"--{name} {value}: one of {', '.join(get_args(known))}.")
        for name, domain in self.space.items():
            if self.sampler == "grid" and isinstance(domain, Range):
                raise InputError(f"{name}: a grid needs the values, as in {name}={domain.low},{domain.high}.")
            if domain.condition is not None:
                field, values = domain.condition
                other = self.space.get(field)
                if not isinstance(other, Choice) or other.condition or not set(values) <= set(other.values):
                    raise InputError(
                        f"{name}: searched with {field}={','.join(map(str, values))}, which is no choice of this space."
                    )

    def checked(self, experiment: object) -> Search:
        """Return the search with every value as the experiment's fields have it: a float for a field of one.

        Raises:
            InputError: there is no such field, or it cannot have one of the values.
        """
        try:
            space = {name: _checked(experiment, name, domain) for name, domain in self.space.items()}
        except InputError as error:
            raise InputError(f"search of {type(experiment).__name__}: {error}") from error
        return replace(self, space=space)

    def to_json(self) -> dict[str, Any]:
        """Return the search as JSON types; `from_json` reads it back."""
        return {"space": {name: asdict(domain) for name, domain in self.space.items()}} | {
            name: getattr(self, name) for name in ("trials", "sampler", "pruner")
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Search:
        """Return the search that `to_json` has returned; what stands beside it in a record is left out."""
        space = {name: _domain(domain) for name, domain in values["space"].items()}
        return cls(space, **{name: values[name] for name in ("trials", "sampler", "pruner")})


def _checked(experiment: object, name: str, domain: Domain) -> Domain:
    held = {} if domain.condition is None else {domain.condition[0]: domain.condition[1][0]}
    found = [value_of(with_fields(experiment, held | {name: value}), name) for value in domain.ends()]
    if isinstance(domain, Range):
        if any(isinstance(value, bool | str) for value in found):
            raise InputError(f"{name}: no number, so it has no range. Name its values: {name}=...,...")
        return replace(domain, low=found[0], high=found[1])
    return replace(domain, values=tuple(found))


def value_of(experiment: object, name: str) -> Any:
    """Return the value of a field, a nested one with a dot."""
    value: Any = experiment
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _domain(values: Mapping[str, Any]) -> Domain:
    condition = values["condition"] and (values["condition"][0], tuple(values["condition"][1]))
    if "values" in values:
        return Choice(condition, tuple(values["values"]))
    return Range(condition, values["low"], values["high"], values["log"])
