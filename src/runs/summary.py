"""What a run says before and after: one resolved plan, one result, and the commands that come next."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from src.configs import shown
from src.runs import hints, records, result_tables
from src.terminal import console

PARTS = {"data": "waiting for data", "checkpoint": "checkpoints"}
MOST_CLASSES = 10
"""Classes whose figures are printed, the rarest first."""
_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Print no plan and no result for a while: for runs from Python, whose caller reads them off the run."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


def before(record: Mapping[str, Any], folder: Path | None) -> None:
    """Print the resolved plan of a run; `folder` is None for a dry run."""
    fields, data, model = record["fields"], record["data"], record["model"]
    module, _, name = record["experiment"].rpartition(".")
    _title(f"{name}, seed {record['seed']}  ({module})")
    _line("data", f"{data['source']}; splits {data['split']}")
    for split, size in data["sizes"].items():
        counts = data["class_counts"].get(split, {})
        shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:8])
        more = f", {len(counts) - 8} more classes" if len(counts) > 8 else ""
        _line("", f"{split:<5} {size:>6}{f'  ({shown}{more})' if counts else ''}")
    if columns := data.get("columns"):
        for number, line in enumerate(columns["each"] if folder is None else [columns["summary"]]):
            _line("" if number else "columns", line)
    for note in data["notes"]:
        _line("NOTE", note)
    if data["stand_in"]:
        _line(
            "STAND-IN",
            "no folder and no network: these data only stand in; no score on them holds for real ones (--data-dir)",
        )
    backbone = f" {fields['backbone']}" if "backbone" in fields else ""
    trained = f", {model['trained']:,} trained" if model["trained"] < model["parameters"] else ""
    target = record["spec"]["target"]
    if target["kind"] == "regression" and (name := target["name"]):
        _line("target", f"{name}{', its logarithm' if target['log'] else ''}")
    _line("model", f"{model['name']}{backbone}, {model['parameters']:,} parameters{trained}")
    _line("weights", record["weights"]["source"])
    for name, wanted in record["asked"].items():
        _line("STAND-IN", f"{name} {fields[name]} in place of {wanted}, whose weights are not available here")
    _line("recipe", recipe(fields, record["steps"]))
    if found := record.get("sized"):
        _line("", f"for {found['rows']} training rows: {differences(found['was'], fields)}")
    speeds = [f"{name} {speed:.3g}" for name, speed in record.get("precision_speeds", {}).items()]
    measured = f" (measured in examples/s: {', '.join(speeds)})" if speeds else ""
    chosen = {"matmul_precision": record.get("matmul_precision")} | {
        name: fields.get(name) for name in ("deterministic", "benchmark")
    }
    also = "".join(f", {name} {value}" for name, value in chosen.items() if value not in (None, "highest"))
    _line("device", f"{record['device']}, precision {record['precision']}{measured}{also}")
    _line("run", str(folder) if folder else "none (dry run)")


def recipe(fields: Mapping[str, Any], steps: int) -> str:
    """Return optimiser, rate, schedule, epochs, batch and steps in one line."""
    parts = [f"batch {fields['batch_size']}", f"up to {fields['max_epochs']} epochs, {steps} steps"]
    if fields["accumulate"] > 1:
        parts.append(f"{fields['accumulate']} batches a step")
    if fields["patience"] is not None:
        parts.append(f"patience {fields['patience']}")
    if fields.get("averaging", "none") != "none":  # a run of before had no such field
        parts.append(f"weights averaged ({fields['averaging']})")
    if optim := fields.get("optim"):
        warmup = f" after {optim['warmup']:.0%} warm-up" if optim["warmup"] else ""
        decay = f", x{optim['layer_decay']:g} a layer down" if optim["layer_decay"] < 1 else ""
        parts.insert(0, f"{optim['name']}, lr {optim['lr']:g}{decay}, {optim['schedule']}{warmup}")
    return ", ".join(parts)


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the fields, and values within them, that are not as they were, as flags with their values."""
    parts: list[str] = []
    for name, value in was.items():
        inner = {f"{name}.{k}": (now[name][k], v) for k, v in value.items()} if isinstance(value, dict) else None
        pairs = inner or {name: (now[name], value)}
        parts += [f"--{key.replace('_', '-')} {new}" for key, (new, old) in pairs.items() if new != old]
    return ", ".join(parts)


def after(record: Mapping[str, Any], folder: Path) -> None:
    """Print the result of a finished run and what can be done with it."""
    best, metrics = record.get("best"), record["metrics"]
    value = "the last epoch, since nothing is monitored"
    if best:
        when = f"at epoch {best['epoch']}" if best["epoch"] else "before training, with the solved head"
        value = f"{best['name']} {shown.metric(best['value'])} {when}"
    _line("best", f"{value}; stopped: {record['reason']}{_stand_in(record)}")
    for split in ("val", "test"):
        found = {name.partition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{split}/")}
        if found:
            _line(split, "  ".join(f"{name} {shown.metric(value)}" for name, value in found.items()))
    if others := {name: value for name, value in metrics.items() if not name.startswith(("val/", "test/"))}:
        _line("metrics", "  ".join(f"{name} {shown.metric(value)}" for name, value in others.items()))
    _classes(record)
    if found := record.get("calibration"):
        _line("calibrated", of_calibration(found))
    speed = f", {record['samples_per_s']:.3g} samples/s while training" if record["samples_per_s"] else ""
    if record.get("baselines"):
        _table(result_tables.beside_baselines(record))
    _line("time", f"{record['wall_s']:.1f} s{speed}")
    if spent := record.get("time"):
        _line("", "training: " + ", ".join(f"{PARTS.get(part, part)} {share:.0%}" for part, share in spent.items()))
    for hint in hints.of(record):
        _line("NOTE", hint)
    if record["tests_read"] > 1:
        _line("NOTE", f"the test set has been read {record['tests_read']} times for this run")
    _line("run", str(folder))
    curves = show_curves(folder) if "tensorboard" in record["fields"].get("logger", ["tensorboard"]) else []
    commands = [*curves, *predict_files(record, folder)]
    if not record["tests_read"] and "test" in record["data"]["sizes"]:
        commands.append(f"{installed('python')} scripts/run.py --resume {_quoted(folder)} --test")
    for number, command in enumerate(commands):
        _command("" if number else "next", command)


def show_curves(folder: Path) -> list[str]:
    """Return the command that shows the runs in TensorBoard, where that is installed."""
    there = shutil.which("tensorboard") or Path(sys.executable).with_name("tensorboard").exists()
    return [f"{installed('tensorboard')} --logdir {_quoted(folder.parent.parent)}"] if there else []


def predict_files(record: Mapping[str, Any], folder: Path) -> list[str]:
    """Return the command that predicts files, where the data module can read them."""
    if not record["data"].get("predicts_files", True):  # a run of before does not say
        return []
    return [f"{installed('python')} scripts/predict.py {_quoted(folder)} FILE_OR_FOLDER --out predictions.csv"]


def _quoted(folder: Path) -> str:
    return shlex.quote(str(folder))


def of_calibration(found: Mapping[str, Any]) -> str:
    """Return in one line the temperature, calibration error and threshold, or the threshold of each label."""
    if "thresholds" in found:
        shown = [f"{name} {value:.3f}" for name, value in found["thresholds"].items()]
        more = f", {len(shown) - MOST_CLASSES} more" if len(shown) > MOST_CLASSES else ""
        gain = f"val/f1_macro {found['f1_macro_before']:.4f} -> {found['f1_macro_thresholds']:.4f}"
        return f"thresholds {', '.join(shown[:MOST_CLASSES])}{more}, {gain}"
    cut = f", threshold {found['threshold']:.3f}" if found["threshold"] is not None else ""
    if "temperature_tried" in found:
        worse = f"val/ece {found['ece_before']:.4f} -> {found['ece_tried']:.4f}"
        return f"not: the temperature stays 1, since {found['temperature_tried']:.3f} makes it worse, {worse}{cut}"
    errors = [("val", found), *([("test", found["test"])] if "test" in found else [])]
    shown = ", ".join(
        f"{split}/ece {of['ece_before']:.4f} -> {of['ece_after']:.4f}" + of_worse
        for split, of in errors
        for of_worse in [" (worse)" if of["ece_after"] > of["ece_before"] else ""]
    )
    return f"temperature {found['temperature']:.3f}, {shown}{cut}"


def after_folds(record: Mapping[str, Any], folder: Path) -> None:
    """Print the result of a finished cross-validation."""
    of_what = f"each tested on what it has not seen: mean and deviation{_stand_in(record)}"
    _title(f"\n{record['folds']} folds, {of_what}")
    _table(result_tables.beside_baselines(record))
    _line("time", f"{record['wall_s']:.1f} s")
    _line("run", f"{folder}; out-of-fold predictions in predictions_folds.csv")


def after_ensemble(record: Mapping[str, Any], folder: Path) -> None:
    """Print the result of a finished ensemble."""
    of_what = f"of the seeds from {record['seed']} on, averaged{_stand_in(record)}"
    _title(f"\n{record['ensemble']} members, {of_what}")
    _table(result_tables.of_ensemble(record))
    _classes(record)
    if record.get("baselines"):
        _table(result_tables.beside_baselines(record))
    if found := record.get("calibration"):
        _line("calibrated", of_calibration(found))
    _line("time", f"{record['wall_s']:.1f} s")
    _line("run", str(folder))
    for command in predict_files(record, folder):
        _command("next", command)


def after_seeds(found: Sequence[Mapping[str, Any]]) -> None:
    """Print mean and sample standard deviation of each final metric over runs that differ in the seed alone."""
    seeds = ", ".join(str(record["seed"]) for record in found)
    name = found[0]["experiment"].rpartition(".")[2]
    _title(f"\n{name}, seeds {seeds}: mean and deviation{_stand_in(found[0])}")
    rows = [
        [metric, f"{shown.metric(statistics.mean(values))} ± {shown.metric(statistics.stdev(values))}"]
        for metric in found[0]["metrics"]
        if all(metric in record["metrics"] for record in found)
        for values in [[record["metrics"][metric] for record in found]]
    ]
    for line in console.rows_as_lines(rows):
        _line("", line)


def interrupted(folder: Path) -> None:
    """Print how to go on with a run that was stopped, silent or not."""
    script = "search" if (folder / "journal.log").is_file() else "run"
    if (folder / "checkpoints" / "last.ckpt").exists() or script == "search" or any(folder.glob("*-*/run.json")):
        command = f"{installed('python')} scripts/{script}.py --resume {_quoted(folder)}"
        console.command("stopped", f"saved; go on with: {command}")
    else:
        console.line("stopped", f"before the first step was saved; nothing to go on with in {folder}")


def comparable(record: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Return flat fields, and final and best metrics, for TensorBoard's HPARAMS tab."""
    flat = {"data": record["data"]["source"], "weights_source": record["weights"]["source"]}
    for name, value in record["fields"].items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    final = {name: value for _, _, name, value in records.metrics(folder) if name.startswith("val/")}
    best = {f"best/{name}": value for name, value in record["metrics"].items()}
    return flat, {f"final/{name}": value for name, value in final.items()} | best


def installed(name: str) -> str:
    """Return how to call a program of this environment: its name where the shell finds it, else its path."""
    program = Path(sys.executable).with_name(name)
    return name if shutil.which(name) == str(program) else os.path.relpath(program)


def _stand_in(record: Mapping[str, Any]) -> str:
    return "  (on STAND-IN data)" if record["data"]["stand_in"] else ""


def _title(text: str) -> None:
    if not _SILENT.get():
        console.title(text)


def _line(label: str, text: str) -> None:
    if not _SILENT.get():
        console.line(label, text)


def _command(label: str, text: str) -> None:
    if not _SILENT.get():
        console.command(label, text)


def _table(rows: Sequence[Sequence[str]]) -> None:
    if not _SILENT.get():
        console.table(rows)


def _classes(record: Mapping[str, Any]) -> None:
    """Print the figures of the rarest classes."""
    if rows := result_tables.of_classes(record):
        _table(rows[: MOST_CLASSES + 1])
        if (more := len(rows) - 1 - MOST_CLASSES) > 0:
            _line("", f"{more} more classes in run.json")
