"""From the name of an experiment to its class."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from src.configs.errors import InputError, did_you_mean
from src.experiment import Experiment


def load(target: str) -> type[Experiment]:
    """Turn `experiments/x.py`, `experiments/x.py:Name` or `experiments.x.Name` into the class.

    The file is imported as the module `experiments.x`, never by location: a second class object would not unpickle in
    spawned workers. A dotted name, which may be that of a run from elsewhere, imports nothing but a module below
    `experiments`, or names one that is imported already.

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
        if dotted not in sys.modules and not re.fullmatch(r"experiments(\.\w+)+", dotted):
            raise InputError(
                f"{target}: not below experiments/, so its code is not run. If it is yours, name its file too: "
                f"run.py {dotted.replace('.', '/')}.py --resume RUN, or --experiment of predict.py."
            )
        module = _import(dotted, target)
    found = _defined_in(module)
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


def others_beside(kind: type[Experiment]) -> list[str]:
    """Return the names of the other experiments of a class's file that can be run."""
    found = _defined_in(sys.modules[kind.__module__])
    return [name for name, other in found.items() if other is not kind and other.task is not Experiment.task]


def _defined_in(module: ModuleType) -> dict[str, type[Experiment]]:
    found = [value for value in vars(module).values() if _is_experiment(value)]
    return {value.__name__: value for value in found if value.__module__ == module.__name__}


def _is_experiment(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Experiment)


def _import_file(path: Path) -> ModuleType:
    root = Path(__file__).resolve().parents[1]
    file = path if path.is_file() else root / path  # from another folder, experiments/x.py is the checkout's
    if not file.is_file():
        near = did_you_mean(str(path), [str(p.relative_to(root)) for p in root.glob("experiments/*.py")])
        raise InputError(f"{path}: no such experiment file.{near} All: ls experiments")
    try:
        dotted = ".".join(file.resolve().relative_to(root).with_suffix("").parts)
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
