"""How a search draws the setting of a trial, and which trials it ends early.

Each trial has a sampler of its own, seeded by the experiment and the trial's number: there is no state to be kept, and
a search that is killed draws what it would have drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from src.configs.search import Choice, Domain, PrunerName, Range, Search, Value
from src.studies.journal import imported

if TYPE_CHECKING:
    import optuna

FACTOR = 3
"""Of asha: a third of the trials goes on from each of its rungs, which are 3 times as far apart each time."""
STARTUP = 5
"""Trials that go on to their end whatever their values: there is nothing yet to compare them with."""


def sampler_of(search: Search, seed: int, number: int, *, workers: int = 1) -> optuna.samplers.BaseSampler:
    """Return the sampler of a trial.

    Args:
        search: what is searched.
        seed: of the experiment.
        number: of the trial, from 0.
        workers: that search at once. tpe then takes running trials for bad ones, so that no two try the same.
    """
    samplers = imported().samplers
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    match search.sampler:
        case "tpe":
            liar = workers > 1
            return samplers.TPESampler(seed=own, multivariate=True, group=True, constant_liar=liar)
        case "gp":
            return samplers.GPSampler(seed=own, warn_independent_sampling=False)
        case "grid":
            settings = grid(search.space)
            order = np.random.default_rng(seed).permutation(len(settings))
            chosen = settings[order[number % len(settings)]]
            return samplers.PartialFixedSampler(chosen, samplers.RandomSampler(own))
        case "random":
            return samplers.RandomSampler(own)


def planned(search: Search) -> int:
    """Return how many trials a search has: a grid no more than it has settings."""
    return min(search.trials, len(grid(search.space))) if search.sampler == "grid" else search.trials


def grid(space: Mapping[str, Domain]) -> list[dict[str, Value]]:
    """Return each combination of the choices once; those of a condition that does not hold are left out."""
    values = [domain.values for domain in space.values() if isinstance(domain, Choice)]
    every = [dict(zip(space, combination, strict=True)) for combination in itertools.product(*values)]
    held = [{name: one[name] for name, domain in space.items() if holds(domain, one)} for one in every]
    return list({tuple(one.items()): one for one in held}.values())


def holds(domain: Domain, setting: Mapping[str, Any]) -> bool:
    """Return whether a field is searched beside those of a setting."""
    return domain.condition is None or setting.get(domain.condition[0]) in domain.condition[1]


def suggest(trial: optuna.Trial, space: Mapping[str, Domain]) -> dict[str, Any]:
    """Return the setting of a trial: field -> value. Values that it has already stay."""
    setting: dict[str, Any] = {}
    for name, domain in ordered(space).items():
        if isinstance(domain, Choice) and holds(domain, setting):
            setting[name] = trial.suggest_categorical(name, domain.values)
        elif isinstance(domain, Range) and holds(domain, setting):
            whole = isinstance(domain.low, int) and isinstance(domain.high, int)
            number = trial.suggest_int if whole else trial.suggest_float
            setting[name] = number(name, domain.low, domain.high, log=domain.log)  # pyright: ignore[reportArgumentType]
    return {name: setting[name] for name in space if name in setting}


def ordered(space: Mapping[str, Domain]) -> dict[str, Domain]:
    """Return the space with the fields that others are conditional on first."""
    return dict(sorted(space.items(), key=lambda item: item[1].condition is not None))


def distribution(domain: Domain) -> optuna.distributions.BaseDistribution:
    """Return the values of a field as Optuna knows them."""
    distributions = imported().distributions
    if isinstance(domain, Choice):
        return distributions.CategoricalDistribution(domain.values)
    assert isinstance(domain, Range)
    if isinstance(domain.low, int) and isinstance(domain.high, int):
        return distributions.IntDistribution(domain.low, domain.high, log=domain.log)
    return distributions.FloatDistribution(domain.low, domain.high, log=domain.log)


def pruner_of(name: PrunerName) -> optuna.pruners.BasePruner:
    """Return what ends trials early. It looks at the trials' values alone and keeps no state."""
    pruners = imported().pruners
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=2, n_min_trials=STARTUP)
    return halving() if name == "asha" else pruners.NopPruner()


def halving() -> optuna.pruners.BasePruner:
    """Return asynchronous successive halving (Li et al. 2020, arXiv 1810.05934, algorithm 2 without brackets).

    Optuna's own keeps its rungs with the trial, where a process that is killed between two of them leaves them wrong.
    """

    class Halving(imported().pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            step = trial.last_step
            if step is None or not is_rung(step):
                return False
            trials = study.get_trials(deepcopy=False)
            values = sorted(one.intermediate_values[step] for one in trials if step in one.intermediate_values)
            if study.direction.name == "MAXIMIZE":
                values.reverse()
            worst = values[max(1, len(values) // FACTOR) - 1]
            value = trial.intermediate_values[step]
            return value > worst if study.direction.name == "MINIMIZE" else value < worst

    return Halving()


def is_rung(validation: int) -> bool:
    """Return whether asha compares trials after this validation: the first, third, ninth and so on."""
    while validation % FACTOR == 0:
        validation //= FACTOR
    return validation == 1
