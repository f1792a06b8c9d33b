"""Columns: what kind each is taken for, the numbers a model sees of it, and that all of it comes back from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from src.configs.words import MISSING, respell
from src.datamodules.tables import columns
from src.datamodules.tables.cells import words
from src.datamodules.tables.columns import LARGEST, Encoder, Scaling, by_kind, decode, unusable
from src.datamodules.tables.kinds import Column, infer
from src.datamodules.tables.spelling import PLAIN, Kind
from src.datamodules.tables.table_files import from_frame
from src.datamodules.tables.values import as_dates, as_numbers
from src.experiment import Columns, Csv, InputError, TablePrep

SCALINGS: tuple[Scaling, ...] = ("standard", "quantile", "log", "none")


def table() -> pd.DataFrame:
    """Return 40 rows with a column of every sort."""
    rng, rows = np.random.default_rng(0), range(40)
    return pd.DataFrame(
        {
            "area": rng.normal(100, 30, 40),
            "rooms": rng.integers(1, 7, 40),
            "tax": [f"{10 * row}.5" if row else "unknown" for row in rows],
            "town": [("Ghent", "Leyden", "Utrecht")[row % 3] for row in rows],
            "garden": [row % 2 == 0 for row in rows],
            "sold": [f"2020-{1 + row % 12:02}-{1 + row % 28:02}" for row in rows],
            "built": pd.to_datetime([f"19{50 + row}-06-01" for row in rows]),
            "owner": [f"owner {row}" for row in rows],
            "country": ["NL"] * 40,
            "cellar": [None] * 40,
            "price": rng.normal(size=40),
        }
    )


def kinds_of(frame: pd.DataFrame, leave_out: Sequence[str] = (), **given: Any) -> tuple[dict[str, Kind], list[str]]:
    notes: list[str] = []
    found = infer(from_frame(frame), Columns(**given), Csv(), notes, leave_out=dict.fromkeys(leave_out, "the target"))
    left_out = [f"{name} ({why})" for name, why in found.left_out.items() if name not in leave_out]
    return {column.name: column.kind for column in found.columns}, [*notes, ", ".join(left_out)]


def refused(frame: pd.DataFrame, **given: Any) -> str:
    with pytest.raises(InputError) as error:
        kinds_of(frame, **given)
    return str(error.value)


class Rows(NamedTuple):
    """What an encoder makes of a table in memory."""

    numbers: np.ndarray
    categories: np.ndarray
    errors: dict[int, str]
    unseen: dict[str, int]


class Fitted:
    """An encoder, and the reading of cells before it."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.values, self.width = encoder, encoder.values, encoder.width

    def encode(self, frame: pd.DataFrame) -> Rows:
        table = from_frame(frame)
        decoded, bad = decode(table, self.encoder.columns)
        found = self.encoder.encode(decoded)
        return Rows(*found, unusable(table, self.encoder.columns, bad), self.encoder.unseen(found.categories))

    def plain(self, frame: pd.DataFrame) -> pd.DataFrame:
        return self.encoder.plain(decode(from_frame(frame), self.encoder.columns).frame)

    def save(self, path: Path) -> None:
        self.encoder.save(path)


def fit(frame: pd.DataFrame, kinds: Mapping[str, Any], scaling: Scaling, clip: float = 0.0) -> Fitted:
    of_kind = by_kind(Column(name=name, kind=kind) for name, kind in kinds.items())
    decoded, _ = decode(from_frame(frame), of_kind)
    return Fitted(columns.fit(decoded, of_kind, scaling, clip))


def fitted(scaling: Scaling = "none", **cells: Any) -> Fitted:
    frame = pd.DataFrame(cells)
    return fit(frame, kinds_of(frame)[0], scaling)


def cells_of(values: Any) -> pa.ChunkedArray:
    return from_frame(pd.DataFrame({"a": values}))["a"]


# ---------------------------------------------------------------------------------------------------------------- kinds
def test_the_kind_of_each_column_is_inferred_and_what_is_left_out_is_noted() -> None:
    kinds, notes = kinds_of(table(), leave_out=("price",))
    assert kinds == {
        "area": "number",
        "rooms": "number",
        "tax": "number",
        "town": "category",
        "garden": "boolean",
        "sold": "date",
        "built": "date",
    }
    (bad,) = (note for note in notes if "column tax" in note)
    left_out = notes[-1]
    for named in ("owner (40 different words)", "country (always NL)", "cellar (always missing)"):
        assert named in left_out
    assert "price" not in left_out
    assert "1 values are no number and count as missing: 'unknown'" in bad


def test_kinds_that_are_named_win() -> None:
    frame = table()
    kinds, notes = kinds_of(
        frame,
        category=("rooms", "owner", "sold"),
        ignored=("area", "price"),
        group="town",
    )
    assert {name: kinds[name] for name in ("rooms", "owner", "sold")} == dict.fromkeys(
        ("rooms", "owner", "sold"), "category"
    )
    assert not {"area", "price", "town"} & kinds.keys(), "ignored columns and the group are not for the model"
    assert "owner" not in " ".join(notes)
    days = frame.assign(built=[f"1950-01-{1 + row % 20:02}" for row in range(40)])
    assert kinds_of(days)[0]["built"] == "date"
    assert kinds_of(days, category=("built",))[0]["built"] == "category"
    codes = frame.assign(town=[str(row % 3) for row in range(40)])
    assert kinds_of(codes, category=("town",))[0]["town"] == "category"
    assert kinds_of(codes)[0]["town"] == "number"
    assert kinds_of(codes.assign(town=codes["town"] + "x"))[0]["town"] == "category"


@pytest.mark.parametrize("field", ["number", "category", "date", "ignored", "group"])
def test_a_named_column_that_is_not_there_is_refused_with_the_nearest(field: str) -> None:
    message = refused(table(), **{field: "aera" if field == "group" else ("aera",)})
    assert "no column aera. Did you mean area?" in message
    assert "There: area, rooms, tax, town" in message


def test_a_table_of_which_nothing_is_left_is_refused() -> None:
    frame = table()[["owner", "country", "cellar"]]
    assert "no column is left" in refused(frame)
    assert kinds_of(frame, category=("owner",))[0] == {"owner": "category"}


def test_words_that_repeat_are_categories_and_names_are_not() -> None:
    many = pd.DataFrame({"a": [f"w{row % 45}" for row in range(90)], "b": [f"w{row % 50}" for row in range(90)]})
    assert kinds_of(many)[0] == {"a": "category"}
    few = pd.DataFrame({"a": [f"w{row}" for row in range(20)]})
    assert kinds_of(few)[0] == {"a": "category"}, "so few values may well come again"


def test_columns_that_never_change_are_left_out_but_missing_values_are_a_change() -> None:
    kinds, _ = kinds_of(pd.DataFrame({"a": ["x", None, "x", "x"], "b": [1.0, 1.0, None, 1.0], "c": [5] * 4}))
    assert kinds == {"a": "category", "b": "number"}


# ---------------------------------------------------------------------------------------------- values that are no such
def test_infinite_numbers_are_refused_with_column_and_rows() -> None:
    frame = table()
    frame.loc[[3, 17], "area"] = [np.inf, -np.inf]
    message = refused(frame)
    for part in ("column area", "2 infinite values", "rows 3, 17", "--columns.ignored area"):
        assert part in message
    assert "area" not in kinds_of(frame, ignored=("area",))[0]


@pytest.mark.parametrize(
    ("kind", "name", "words"), [("number", "tax", ("unknown",)), ("date", "sold", ("last week", "32.13.2020"))]
)
def test_values_of_another_kind_are_missing_in_a_guessed_column_and_refused_in_a_named_one(
    kind: str, name: str, words: tuple[str, ...]
) -> None:
    frame = pd.concat([table()] * 2, ignore_index=True)
    frame["tax"] = [f"{row}.5" for row in range(80)]
    for row, word in zip((9, 33), words, strict=False):
        frame.loc[row, name] = word
    kinds, notes = kinds_of(frame)
    assert kinds[name] == kind
    (note,) = (note for note in notes if f"column {name}" in note)
    assert f"{len(words)} values are no {kind} and count as missing" in note
    assert all(repr(word) in note for word in words)
    message = refused(frame, **{kind: (name,)})
    assert f"column {name}: {len(words)} values are no {kind}" in message
    assert f"rows {', '.join(map(str, (9, 33)[: len(words)]))}, counted from 0" in message
    assert repr(words[0]) in message


def test_a_column_of_mixed_types_is_a_category() -> None:
    frame = pd.DataFrame({"a": [1, "x", 2.5, None, 3, "x", 1, "y"]})
    assert kinds_of(frame)[0] == {"a": "category"}
    encoder = fit(frame, {"a": "category"}, "none")
    assert sorted(encoder.values[0]) == ["", "1", "2.5", "3", "x", "y"]
    assert encoder.encode(frame).categories[0] == encoder.encode(frame).categories[6]
    assert "column a: 3 values are no number: 'x', 'x', 'y' (rows 1, 5, 7, counted from 0)" in refused(
        frame, number=("a",)
    )


CELL = st.one_of(
    st.floats(-1e300, 1e300), st.none(), st.just(float("inf")), st.text(max_size=5), st.sampled_from(sorted(MISSING))
)


@given(st.lists(CELL, max_size=8))
def test_each_value_is_a_finite_number_or_missing_or_bad(values: list[Any]) -> None:
    found, bad = as_numbers(cells_of(pd.Series(values, dtype=object)), PLAIN)
    assert len(found) == len(values)
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
            assert np.isnan(found[row])
            assert row not in bad
        elif row in bad:
            assert np.isnan(found[row])
            assert isinstance(value, str) or np.isinf(value)
        else:
            assert found[row] == float(value)


# ----------------------------------------------------------------------------------------------------------- categories
@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, 2, 30]),
        pd.Series([1.0, 2.0, 30.0]),
        pd.Series(["1", " 2", "30 "]),
        pd.Series([1, 2, 30], dtype="Int64"),
        pd.Series([1.0, 2.0, 30.0], dtype="Float64"),
        pd.Series([1, "2", 30], dtype=object),
        pd.Series(["1", "2", "30"], dtype="category"),
        pd.Series([1.0, "2", 30.0], dtype=object),
    ],
    ids=lambda column: f"{column.dtype}-{type(column[0]).__name__}",
)
def test_a_whole_number_means_the_same_however_it_is_held(column: pd.Series) -> None:
    found, known = words(cells_of(column)), ["1", "2", "30"]
    assert [respell(found, known)[word] for word in found] == known
    assert [respell(known, found)[word] for word in known] == found


def test_words_of_missing_values_and_fractions() -> None:
    assert words(cells_of(pd.Series([1.5, None, 2.0]))) == ["1.5", "", "2.0"]
    assert words(cells_of(pd.Series([1, None], dtype="Int64"))) == ["1", ""]
    assert words(cells_of(pd.Series([True, False]))) == ["True", "False"]
    assert words(cells_of(pd.Series(["a", None, " b "]))) == ["a", "", "b"]


def test_values_that_training_had_not_are_zero_and_counted() -> None:
    frame = pd.DataFrame({"town": ["b", "a", "b", "c"], "heat": ["x", None, "y", "x"], "n": [1, 2, 3, 4]})
    encoder = fit(frame, kinds_of(frame)[0], "none")
    assert encoder.encode(frame).categories.tolist() == [[2, 2], [1, 1], [2, 3], [3, 2]], "sorted, counted from 1"
    assert encoder.encode(frame).unseen == {}
    new = pd.DataFrame({"heat": ["z", None, "x"], "n": [1, 2, 3], "town": ["a", "Q", None], "more": [1, 2, 3]})
    rows = encoder.encode(new)
    assert rows.categories.tolist() == [[1, 0], [0, 1], [0, 2]], "'' is a value where training had it, else unseen"
    assert rows.unseen == {"town": 2, "heat": 1}
    assert rows.errors == {}


# ------------------------------------------------------------------------------------------------------- missing values
def test_missing_numbers_become_the_training_median_and_are_marked() -> None:
    encoder = fitted(a=[1.0, None, 3.0, 10.0], b=[4.0, 5.0, 6.0, 9.0], c=["u", "v", None, "u"])
    assert encoder.width == 3
    found = encoder.encode(pd.DataFrame({"a": [None, 7.0], "b": [None, 8.0], "c": ["u", None]}))
    assert found.numbers.tolist() == [[3.0, 5.5, 1.0], [7.0, 8.0, 0.0]], "b was never missing in training: no mark"
    assert found.numbers.dtype == np.float32
    assert found.categories.tolist() == [[2], [1]]
    assert found.errors == {}


def test_blank_strings_are_missing_numbers() -> None:
    encoder = fitted(a=["1", " ", "3", "10", ""])
    assert encoder.encode(pd.DataFrame({"a": [" ", "5"]})).numbers.tolist() == [[3.0, 1.0], [5.0, 0.0]]


# -------------------------------------------------------------------------------------------------------------- scaling
def by_scikit_learn(train: np.ndarray, rows: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Return what scikit-learn's transformers, fitted to `train`, make of `rows`."""
    imputer = SimpleImputer(strategy="median").fit(train)
    train, rows = np.asarray(imputer.transform(train)), np.asarray(imputer.transform(rows))
    if scaling == "quantile":
        count = min(1000, len(train))
        scaler = QuantileTransformer(n_quantiles=count, output_distribution="normal", subsample=len(train))
    elif scaling == "none":
        return rows
    else:
        scaler = StandardScaler()
    if scaling == "log":
        train, rows = (np.sign(part) * np.log1p(np.abs(part)) for part in (train, rows))
    return np.asarray(scaler.fit(train).transform(rows))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaling_is_scikit_learns_fitted_to_the_training_rows(scaling: Scaling) -> None:
    rng = np.random.default_rng(1)
    train = np.column_stack([rng.lognormal(8, 1, 3000), rng.normal(-3, 2, 3000), rng.integers(0, 5, 3000)])
    train[rng.random(train.shape) < 0.1] = np.nan
    new = np.column_stack([rng.lognormal(9, 1.5, 50), rng.normal(0, 4, 50), rng.integers(-2, 9, 50)])
    new[::7, 1] = np.nan
    frame = pd.DataFrame(train, columns=list("abc"))
    encoder = fit(frame, dict.fromkeys("abc", "number"), scaling)
    expected = np.hstack([by_scikit_learn(train, new, scaling), np.isnan(new)])
    found = encoder.encode(pd.DataFrame(new, columns=list("abc"))).numbers
    np.testing.assert_allclose(found, expected.astype(np.float32), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        encoder.encode(frame).numbers[:, :3], by_scikit_learn(train, train, scaling), rtol=1e-6, atol=1e-6
    )


def test_each_scaling_is_another() -> None:
    values = np.random.default_rng(0).lognormal(3, 1, 200)
    found = [fitted(scaling, a=values).encode(pd.DataFrame({"a": values})).numbers for scaling in SCALINGS]
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize("scaling", SCALINGS)
def test_what_lies_beyond_the_training_rows_is_cut(scaling: Scaling) -> None:
    train = np.append(np.arange(99.0), 1e6)
    encoder = fit(pd.DataFrame({"a": train}), {"a": "number"}, scaling, clip=0.1)
    low, high = np.quantile(train, (0.1, 0.9))
    new = np.array([-1e9, low, 50.0, high, 1e9])
    found = encoder.encode(pd.DataFrame({"a": new})).numbers
    expected = by_scikit_learn(train.clip(low, high)[:, None], new.clip(low, high)[:, None], scaling)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    uncut = fit(pd.DataFrame({"a": train}), {"a": "number"}, scaling)
    assert uncut.encode(pd.DataFrame({"a": [1e9]})).numbers != uncut.encode(pd.DataFrame({"a": [high]})).numbers


@pytest.mark.parametrize("share", [-0.1, 0.5, float("nan")])
def test_shares_that_leave_nothing_are_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"--prep.clip"):
        TablePrep(clip=share)


numbers = st.one_of(st.none(), st.floats(-1e6, 1e6), st.integers(-1000, 1000), st.sampled_from([0.0, 1.0, 1e-30]))


@settings(deadline=None, max_examples=40)
@given(st.lists(numbers, min_size=3, max_size=12), st.lists(numbers, min_size=1, max_size=5), st.sampled_from(SCALINGS))
def test_any_numbers_are_scaled_as_scikit_learn_does(train: list[Any], new: list[Any], scaling: Scaling) -> None:
    column, rows = np.array(train, float)[:, None], np.array(new, float)[:, None]
    if np.isnan(column).all():
        return
    encoder = fit(pd.DataFrame({"a": train}), {"a": "number"}, scaling)
    found = encoder.encode(pd.DataFrame({"a": pd.Series(new, dtype=float)})).numbers
    expected = by_scikit_learn(column, rows, scaling).clip(-LARGEST, LARGEST)
    np.testing.assert_allclose(found[:, :1], expected, rtol=1e-5, atol=1e-5)
    assert found.shape[1] == 1 + (None in train)
    assert np.isfinite(found).all()


# ---------------------------------------------------------------------------------------------------------------- dates
@settings(deadline=None, max_examples=40)
@given(st.lists(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), min_size=2, max_size=6, unique=True))
def test_a_date_becomes_its_parts(dates: list[datetime]) -> None:
    dates = [moment.replace(microsecond=0) for moment in dates]
    expected = [
        [
            (moment - datetime(1970, 1, 1)) / timedelta(days=1),
            moment.year,
            moment.month,
            moment.weekday(),
            moment.timetuple().tm_yday,
        ]
        for moment in dates
    ]
    for column in (
        pd.Series(dates),
        pd.Series([moment.isoformat() for moment in dates]),
        pd.Series(dates, dtype=object),
    ):
        found, bad = as_dates(cells_of(column), PLAIN)
        assert bad == []
        np.testing.assert_allclose(np.stack(found, 1), expected, rtol=0, atol=1e-6)


def test_dates_are_encoded_as_five_numbers_and_missing_ones_as_medians() -> None:
    encoder = fitted(when=["2020-01-31", "2021-03-01", None, "2022-12-24"], n=[1, 2, 3, 4])
    assert [column.name for column in encoder.encoder.columns if column.kind == "date"] == ["when"]
    assert encoder.width == 1 + 5 + 5
    found = encoder.encode(pd.DataFrame({"when": [date(2020, 1, 31), None], "n": [1, 1]})).numbers
    assert found[0].tolist() == [1, 18292, 2020, 1, 4, 31, 0, 0, 0, 0, 0]
    assert found[1].tolist() == [1, 18687, 2021, 3, 4, 60, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("text", ["25.06.2020", "05/06/2020", "06/25/2020", "1/2/20"])
def test_dates_whose_order_depends_on_the_country_are_refused(text: str) -> None:
    _, bad = as_dates(cells_of(pd.Series(["2020-06-25", text])), PLAIN)
    assert bad == [1]
    assert "when" in refused(pd.DataFrame({"when": [text, "2020-01-02", "2020-01-03"]}), date=("when",))


@pytest.mark.parametrize("word", ["today", "now", "May", "5", "10:30", "monday", "2020-02-30", "2020-13-01"])
def test_what_names_no_day_is_no_date(word: str) -> None:
    found, bad = as_dates(cells_of(pd.Series(["2020-01-01", word])), PLAIN)
    assert bad == [1], "else the same file would give other predictions tomorrow"
    assert np.isnan(found[0]).tolist() == [False, True]


@pytest.mark.parametrize("far", ["9999-12-31", "0001-01-01", "1066-10-14"])
def test_far_dates_are_dates(far: str) -> None:
    found, bad = as_dates(cells_of(pd.Series(["2020-01-01", far])), PLAIN)
    assert bad == []
    assert found[1].tolist() == [2020, int(far[:4])]


def test_dates_written_as_whole_numbers_are_read_or_refused() -> None:
    frame = pd.DataFrame({"when": [20200131, 20210301, 20221224, 20220505]})
    found, bad = as_dates(cells_of(frame["when"]), PLAIN)
    assert bad == [0, 1, 2, 3] or found[1].tolist() == [2020, 2021, 2022, 2022], "not nanoseconds after 1970"
    if bad:
        assert "column when: 4 values are no date" in refused(frame, date=("when",))


# ----------------------------------------------------------------------------------------------------- rows with errors
def test_what_cannot_be_used_is_named_by_row() -> None:
    encoder = fitted(a=[1.0, 2.0, 3.0], when=["2020-01-31", "2021-03-01", "2022-12-24"], c=["u", "v", "u"])
    new = pd.DataFrame(
        {
            "a": ["1", "two", "3", "", "inf"],
            "when": ["2020-01-01", "2020-01-01", "soon", None, "2020-01-01"],
            "c": ["u", "v", "u", "v", "u"],
        }
    )
    errors = encoder.encode(new).errors
    assert sorted(errors) == [1, 2, 4]
    assert "a: 'two' is no finite number" in errors[1]
    assert "when: 'soon' is no date" in errors[2]
    assert "a: 'inf' is no finite number" in errors[4]


def test_the_order_of_columns_and_further_ones_change_nothing() -> None:
    frame = table()
    encoder = fit(frame, kinds_of(frame)[0], "standard")
    turned = frame[frame.columns[::-1]].assign(more=1)
    assert np.array_equal(encoder.encode(turned).numbers, encoder.encode(frame).numbers)
    assert np.array_equal(encoder.encode(turned).categories, encoder.encode(frame).categories)


# ----------------------------------------------------------------------------------------------- for scikit-learn's own
def test_plain_columns_are_unscaled_with_missing_values_missing() -> None:
    frame = pd.DataFrame(
        {
            "a": [1.0, None, 3.0, 8.0],
            "when": ["2020-01-31", None, "2022-12-24", "2022-12-25"],
            "c": ["u", "v", None, "u"],
        }
    )
    encoder = fit(frame, {"a": "number", "when": "date", "c": "category"}, "quantile")
    plain = encoder.plain(frame.assign(c=pd.Series(["u", "new", None, "v"])))
    parts = ["when days", "when year", "when month", "when weekday", "when day of year"]
    assert plain.columns.tolist() == ["a", *parts, "c"]
    assert plain["a"].fillna(-1).tolist() == [1, -1, 3, 8]
    assert plain["when year"].fillna(-1).tolist() == [2020, -1, 2022, 2022]
    assert isinstance(plain["c"].dtype, pd.CategoricalDtype)
    assert plain["c"].astype(object).where(plain["c"].notna(), "none").tolist() == ["u", "none", "", "v"]


def test_plain_categories_of_too_many_values_are_numbers() -> None:
    frame = pd.DataFrame({"c": [f"w{row % 256}" for row in range(600)]})
    encoder = fit(frame, {"c": "category"}, "none")
    assert pd.api.types.is_integer_dtype(encoder.plain(frame)["c"])
    fewer = fit(frame[frame["c"] != "w7"], {"c": "category"}, "none")
    assert isinstance(fewer.plain(frame)["c"].dtype, pd.CategoricalDtype), "as many as gradient boosting takes"


# ----------------------------------------------------------------------------------------------------- saved and loaded
rows_of = st.lists(
    st.tuples(
        numbers,
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32)),
        st.one_of(st.none(), st.text(max_size=4)),
        st.one_of(st.none(), st.dates(date(1800, 1, 1), date(2200, 1, 1))),
    ),
    min_size=2,
    max_size=10,
)


def frame_of(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    a, b, c, d = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            "a": pd.Series(a, dtype=float),
            "b": pd.Series(b, dtype=float),
            "c": pd.Series(c, dtype=object),
            "d": pd.Series(d, dtype="datetime64[s]"),
        }
    )


@settings(deadline=None, max_examples=60)
@given(rows_of, rows_of, st.sampled_from(SCALINGS), st.sampled_from([0.0, 0.05]))
def test_what_was_saved_encodes_to_the_bit_as_before(
    tmp_path_factory: pytest.TempPathFactory, train: Any, new: Any, scaling: Scaling, clip: float
) -> None:
    frame, other = frame_of(train), frame_of(new)
    kinds = {"a": "number", "b": "number", "c": "category", "d": "date"}
    kinds = {name: kind for name, kind in kinds.items() if frame[name].notna().any()}
    encoder = fit(frame, kinds, scaling, clip)
    path = tmp_path_factory.mktemp("saved") / "columns.json"
    encoder.save(path)
    loaded = Encoder.load(path)
    assert loaded == encoder.encoder
    again = Fitted(loaded)
    for part in (frame, other):
        before, after = encoder.encode(part), again.encode(part)
        assert before.numbers.tobytes() == after.numbers.tobytes()
        assert before.categories.tobytes() == after.categories.tobytes()
        assert before.errors == after.errors
        assert before.unseen == after.unseen


def plain_json(path: Path) -> Any:
    """Read strict JSON: no NaN, no Infinity, which other readers refuse."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_what_is_saved_is_plain_json(tmp_path: Path, scaling: Scaling) -> None:
    frame = table().assign(town=["Gänserndorf", '"x"\n', "日本"] * 13 + ["x"])
    encoder = fit(frame, kinds_of(frame)[0], scaling)
    encoder.save(tmp_path / "columns.json")
    saved = plain_json(tmp_path / "columns.json")
    assert saved["scaling"] == scaling
    assert "日本" in saved["values"][0]
    numbers = [column["name"] for column in saved["columns"] if column["kind"] == "number"]
    assert numbers == ["area", "rooms", "tax", "price"]
    assert Encoder.load(tmp_path / "columns.json") == encoder.encoder


@pytest.mark.parametrize("content", [None, "", "{", "[]", '"x"', "{}", '{"numbers": 3}', '{"odd": 1}'])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "columns.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"columns\.json|Encoder"):
        Encoder.load(path)


def test_rows_are_encoded_alike_however_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"x": [1.0, None, 3.0, 5.0], "c": list("abab"), "d": pd.date_range("2026-01-30", periods=4)})
    encoder = fit(frame, {"x": "number", "c": "category", "d": "date"}, "standard")
    new = pd.DataFrame(
        {"x": ["2", "?", "", "inf", "7"], "c": list("acbzz"), "d": ["2026-01-01", "no", "2026-02-03", "", "1/2/3"]}
    )
    whole = encoder.encode(new)
    assert set(whole.errors) == {1, 3, 4}
    assert whole.unseen == {"c": 3}
    monkeypatch.setattr(columns, "CHUNK", 2)
    parts = encoder.encode(new)
    assert np.array_equal(parts.numbers, whole.numbers)
    assert np.array_equal(parts.categories, whole.categories)
    assert (parts.errors, parts.unseen) == (whole.errors, whole.unseen)
    assert len(encoder.encode(new.iloc[:0]).numbers) == 0
