"""What the defaults that are there for speed do to accuracy: each beside its opposite, the same data, three seeds.

    python benchmarks/defaults.py bf16
    python benchmarks/defaults.py cache
    python benchmarks/defaults.py bucketing
    python benchmarks/defaults.py probe_start

Pictures are drawn (800/200) or scikit-learn's digits, texts 2 000 and 1 000 reviews of IMDb, held out as blocks.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from benchmarks.loops import our_score
from benchmarks.texts import sample
from experiments.cats_dogs_finetune import CatsDogsFinetune, CatsDogsProbe, CatsDogsScratch
from experiments.digits import DigitsCNN
from experiments.imdb_bert import ImdbBert
from experiments.imdb_lstm import ImdbLstm
from src.experiment import Experiment, replace

SEEDS = (0, 1, 2)


class FromDrawnHead(CatsDogsFinetune):
    """Its head starts as drawn, not solved."""

    cached_features = "no"


class EachEpoch(CatsDogsProbe):
    """Runs the frozen backbone in each epoch."""

    cached_features = "no"
    frozen = 1.0


def pairs(job: str, folder: Path) -> dict[str, dict[str, Experiment]]:
    """Return for each title the trainings to compare."""
    scratch = CatsDogsScratch(source="drawn")
    match job:
        case "bf16":
            texts = sample(folder)
            trained: dict[str, Experiment] = {
                "small CNN, drawn pictures": scratch,
                "CNN, digits": DigitsCNN(),
                "LSTM, 2 000 reviews": ImdbLstm(data_dir=texts),
                "MiniLM, 512 reviews": ImdbBert(data_dir=texts, limit_train_batches=16),
            }
            kinds = "bf16-mixed", "32-true"
            return {title: {kind: replace(one, precision=kind) for kind in kinds} for title, one in trained.items()}
        case "cache":
            return {
                "small CNN, drawn pictures": {"cached": scratch, "decoded each time": replace(scratch, cache=False)}
            }
        case "bucketing":
            lstm = ImdbLstm(data_dir=sample(folder))
            padded = replace(lstm, prep=replace(lstm.prep, padding="max_length"))
            return {"LSTM, 2 000 reviews": {"batches of like length": lstm, "padded to one length": padded}}
        case _:
            probe, each = CatsDogsProbe(source="drawn"), EachEpoch(source="drawn")
            tuned, drawn = CatsDogsFinetune(source="drawn"), FromDrawnHead(source="drawn")
            return {
                "fine-tuned, drawn pictures": {"head solved first": tuned, "head as drawn": drawn},
                "probe, drawn pictures": {"features kept, head solved": probe, "backbone run each epoch": each},
            }


def main() -> None:
    flags = report.options(__doc__ or "", ["bf16", "cache", "bucketing", "probe_start"])
    found: list[report.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEYDEN_RUNS"] = folder
        for title, trained in pairs(flags.job, Path(folder)).items():
            for name, one in trained.items():
                values = [our_score(replace(one, seed=seed)) for seed in SEEDS]
                spread = min(values), max(values)
                found.append(report.Row(title, name, "val/acc", statistics.median(values), spread))
    report.show(found, flags.json)


if __name__ == "__main__":
    main()
