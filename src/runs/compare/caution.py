"""Why numbers that stand side by side may not be compared, or not be trusted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from src.runs.compare.groups import Block, Group
from src.runs.compare.runs import Run

MOST_NAMES = 4


def cautions(blocks: Sequence[Block]) -> list[str]:
    """Return a line for each reason, the gravest first."""
    runs = [run for block in blocks for run in block.runs]
    groups = [group for block in blocks for group in block.groups]
    return [
        *_stand_in_data(blocks),
        *_other_data(blocks),
        *_weights(runs),
        *_tests_read(runs),
        *_code(runs, groups),
        *_repeated_seeds(groups),
    ]


def _stand_in_data(blocks: Sequence[Block]) -> list[str]:
    drawn = [block for block in blocks if block.fallback]
    real = [block for block in blocks if block.data and not block.fallback]
    if not drawn:
        return []
    what = (
        f"STAND-IN data ({some((block.data['source'] for block in drawn), '; ')}): no score on them holds for real ones"
    )
    if not real:
        return [f"{what}."]
    other = f"{experiments(real)} on real data ({some((block.data['source'] for block in real), '; ')})"
    return [f"{what}; never set {experiments(drawn)} on them beside {other}."]


def _other_data(blocks: Sequence[Block]) -> list[str]:
    by_data: dict[str, list[Block]] = defaultdict(list)
    for block in blocks:
        if block.data:
            by_data[block.data["fingerprint"]].append(block)
    found: list[str] = []
    if len(by_data) > 1:
        parts = (f"{experiments(same)} on {same[0].data['source']} ({name})" for name, same in by_data.items())
        found.append(f"Other data: {len(by_data)} data fingerprints; compare within a table only: {some(parts, '; ')}.")
    for same in by_data.values():
        if len(same) > 1:
            parts = (f"{experiments([block])} on '{split_of(block)}'" for block in same)
            found.append(f"Other split of {same[0].data['source']}; compare within a table only: {some(parts, '; ')}.")
    return found


def split_of(block: Block) -> str:
    sizes = ", ".join(f"{split} {size}" for split, size in block.data.get("sizes", {}).items())
    return block.data["split"] + (f" ({sizes})" if sizes else "")


def _weights(runs: Sequence[Run]) -> list[str]:
    found: list[str] = []
    stand_ins: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        for name, wanted in run.record.get("asked", {}).items():
            stand_ins[f"{name} {run.record['fields'].get(name)} in place of {wanted}"].append(run)
    if stand_ins:
        parts = (f"{some(run.experiment for run in same)}: {what}" for what, same in stand_ins.items())
        found.append(f"STAND-IN weights: {some(parts)}.")
    sources: dict[str, dict[str, None]] = defaultdict(dict)
    for run in runs:
        if source := run.record.get("weights", {}).get("source"):
            sources[run.experiment][source] = None
    found += [
        f"Other weights: {name} began from {some(which, ' and from ')}."
        for name, which in sources.items()
        if len(which) > 1
    ]
    return found


def _tests_read(runs: Sequence[Run]) -> list[str]:
    often = [run for run in runs if run.record.get("tests_read", 0) > 1]
    parts = (f"{run.path} ({run.record['tests_read']} times)" for run in often)
    return [f"Test set read more than once, so it may have been chosen by: {some(parts)}."] if often else []


def _code(runs: Sequence[Run], groups: Sequence[Group]) -> list[str]:
    found: list[str] = []
    dirty = [run for run in runs if run.record.get("git", {}).get("dirty")]
    if dirty:
        found.append(
            f"Uncommitted code: {len(dirty)} of {len(runs)} runs ({some(run.experiment for run in dirty)}); "
            "uncommitted.diff in the run has it."
        )
    mixed = [
        group for group in groups if len({run.record.get("git", {}).get("commit", "") for run in group.counted}) > 1
    ]
    if mixed:
        found.append(f"Runs of several commits in one group: {some(group.name for group in mixed)}.")
    return found


def _repeated_seeds(groups: Sequence[Group]) -> list[str]:
    parts: list[str] = []
    for group in groups:
        seeds = Counter(run.seed for run in group.runs if run.state == "done")
        if again := [str(seed) for seed, count in seeds.items() if count > 1]:
            parts.append(f"{group.name} seed {', '.join(again)}")
    return [f"A seed ran more than once in a group, only its newest run counts: {some(parts)}."] if parts else []


def experiments(blocks: Iterable[Block]) -> str:
    return some(group.name for block in blocks for group in block.groups)


def some(names: Iterable[str], between: str = ", ") -> str:
    """Return the first few of the distinct names, and how many more there are."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - MOST_NAMES} more" if len(distinct) > MOST_NAMES else ""
    return between.join(distinct[:MOST_NAMES]) + more
