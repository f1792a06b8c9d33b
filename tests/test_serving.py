"""Slow: the server under load while it ends, and under thousands of requests that nobody should send."""

from __future__ import annotations

import http.client
import io
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import schemathesis
from conftest import Exports
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from servers import Reply, Served, form, serving

from experiments.digits import DigitsCNN
from experiments.tables import TableRegression
from experiments.texts import TextsMultiLabel
from src.inference import exported

pytestmark = pytest.mark.slow
ROW = {"area": 80.5, "rooms": 3, "town": "Leyden", "sold": "2004-05-15", "heating": "gas", "size": "small"}
JSON = {"content-type": "application/json"}


class Client(threading.Thread):
    """Asks without a break until the server ends; what became of each request is counted.

    Args:
        served: whom it asks.
        keeps: its connection, or takes a new one for each request.
        rows: of a request.
        found: the counts.
    """

    def __init__(self, served: Served, keeps: bool, rows: int, found: Counter[str]) -> None:
        super().__init__()
        self.served, self.keeps, self.found = served, keeps, found
        self.body, self.rows = json.dumps([ROW] * rows), rows

    def run(self) -> None:
        connection = self.served.connect()
        while True:
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionRefusedError:
                break  # the server has ended, and nothing was sent
            except OSError as error:
                self.found[f"not connected: {type(error).__name__}"] += 1
                break
            try:
                connection.request("POST", "/predict", self.body, JSON)
                reply = connection.getresponse()
                right = reply.status == 200 and len(json.loads(reply.read())) == self.rows
                self.found["right" if right else f"status {reply.status}"] += 1
                self.found["closed in order"] += reply.headers["connection"] == "close"
            except (OSError, http.client.HTTPException) as error:
                self.found[f"lost: {type(error).__name__}"] += 1
                break
            if not self.keeps:
                connection.close()
        connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_accepted_request_is_lost_by_ten_sigterms_under_load(exports: Exports, tmp_path: Path, workers: str) -> None:
    found: Counter[str] = Counter()
    rng = random.Random(0)
    for number in range(10):
        flags = ("--workers", workers, "--drain", "20", "--no-access-log")
        with serving(exports(TableRegression), tmp_path / f"{workers}-{number}", *flags) as served:
            clients = [Client(served, kind % 3 != 2, 1 + 40 * (kind % 2), found) for kind in range(16)]
            for client in clients:
                client.start()
            time.sleep(rng.uniform(0.5, 1.5))
            began = time.monotonic()
            assert served.stop(signal.SIGTERM) == 0
            assert time.monotonic() - began < 20
            for client in clients:
                client.join()
            assert "Traceback" not in served.log.read_text("utf-8")
    print(dict(found))
    assert not [what for what in found if what.startswith(("lost", "status"))], found
    assert found["right"] > 200
    assert found["closed in order"] >= 80


# ------------------------------------------------------------------------------------------------------ fuzzed requests
SUPPRESSED = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
FUZZED = 900
"""Requests of each of two ways of fuzzing, and a third part of them good ones, for each of three servers: 6 300."""


@pytest.fixture(scope="module", params=[DigitsCNN, TextsMultiLabel, TableRegression], ids=lambda kind: kind.__name__)
def served(
    request: pytest.FixtureRequest, exports: Exports, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with serving(exports(request.param), tmp_path_factory.mktemp("fuzzed"), "--max-body", "1") as found:
        yield found
        assert found.process.poll() is None
        assert "traceback" not in found.log.read_text("utf-8")


def png(pixels: bytes) -> bytes:
    file = io.BytesIO()
    Image.frombytes("L", (8, 8), pixels).save(file, "png")
    return file.getvalue()


def cells() -> st.SearchStrategy[Any]:
    """Cells of a row: right ones, odd ones, and such as no file can hold."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.just("\ud800"),
        st.just("2004-05-15"),
    )


def bodies(served: Served) -> st.SearchStrategy[tuple[bytes, str]]:
    """Bodies that are nearly right, with a content type."""
    kind = served.get("/model").json["input"]
    anything = st.recursive(cells(), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner))
    row = st.fixed_dictionaries({}, optional=dict.fromkeys(ROW, cells())) | st.just(ROW)
    text = st.fixed_dictionaries({"text": cells()}) | st.text()
    of_kind = {"image": st.just("x"), "text": text, "table": row}[kind]
    found = st.one_of(of_kind, st.lists(of_kind | anything, max_size=5), anything).map(
        lambda one: json.dumps(one).encode()
    )
    csv = st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=6), max_size=5).map(
        lambda rows: "\n".join(",".join(cells) for cells in rows).encode("utf-8", "surrogatepass")
    )
    image = st.binary(min_size=64, max_size=64).map(png)
    raw = st.one_of(found, csv, image, image.map(lambda one: form(one)[0]), st.binary(max_size=200))
    cut = st.tuples(raw, st.integers(0, 300), st.binary(max_size=6)).map(
        lambda one: one[0][: one[1]] + one[2] + one[0][one[1] :]
    )
    types = st.sampled_from(
        [
            "application/json",
            "text/csv",
            "text/plain",
            "image/png",
            form()[1],
            "application/octet-stream",
            "",
            "a/b;c=d",
        ]
    )
    return st.tuples(raw | cut, types)


class Fuzzer:
    """Sends requests over one connection, as long as that lasts, and counts the replies."""

    def __init__(self, served: Served) -> None:
        self.connection, self.found = served.connect(), Counter[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        self.connection.request("POST", path, body, headers)
        reply = self.connection.getresponse()
        found = Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        self.found[str(found.status)] += 1
        assert found.status < 500, (found, body, headers)
        assert found.status == 200 or found.error
        json.loads(found.body, parse_constant=pytest.fail)
        return found


def test_bodies_that_are_nearly_right_never_fail_the_server(served: Served) -> None:
    name = served.get("/model").json["name"]

    @settings(max_examples=FUZZED, deadline=None, suppress_health_check=SUPPRESSED)
    @given(
        bodies(served), st.sampled_from(["/predict", f"/v2/models/{name}/infer"]), st.sampled_from(["", "0", "9", "-1"])
    )
    def send(body: tuple[bytes, str], path: str, length: str) -> None:
        headers = {"content-type": body[1]} | ({"inference-header-content-length": length} if length else {})
        fuzzer.send(path, body[0], headers)

    with Fuzzer(served) as fuzzer:
        send()
    print(served.export.parents[2].name, dict(fuzzer.found))
    assert fuzzer.found.total() >= FUZZED


def test_requests_made_of_the_description_never_fail_the_server(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found: Counter[str] = Counter()
    base = f"http://127.0.0.1:{served.port}"
    schema: Any = schemathesis.openapi.from_url(f"{base}/openapi.json")
    operations = [one.ok() for one in schema.get_all_operations()]
    for operation in operations:
        modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
        share = FUZZED // 6 if operation.method == "post" else 20

        for mode in modes if operation.method == "post" else modes[:1]:

            @settings(max_examples=share, deadline=None, suppress_health_check=SUPPRESSED)
            @given(operation.as_strategy(generation_mode=mode))
            def send(case: Any) -> None:
                reply = case.call(base_url=base)
                found[str(reply.status_code)] += 1
                assert reply.status_code < 500, case.as_curl_command()

            send()
    print(served.export.parents[2].name, dict(found))


def test_good_requests_among_them_get_the_right_answers(served: Served) -> None:
    kind = served.get("/model").json["input"]
    made = exported.load(served.export, threads=1)
    good: Any = {
        "image": st.binary(min_size=64, max_size=64).map(png),
        "text": st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text.strip()),
        "table": st.fixed_dictionaries(
            {
                "area": st.floats(0, 1e6).map(str),
                "rooms": st.integers(0, 99).map(str),
                "town": st.sampled_from(["Ghent", "Leyden", "Utrecht", "Delft", ""]),
                "sold": st.dates().map(str),
                "heating": st.sampled_from(["gas", "oil", ""]),
                "size": st.sampled_from(["small", "large"]),
            }
        ),
    }[kind]

    @settings(max_examples=FUZZED // 3, deadline=None, suppress_health_check=SUPPRESSED)
    @given(good)
    def send(one: Any) -> None:
        wanted = made.predict([one])
        body, content = (one, "image/png") if kind == "image" else (json.dumps(one).encode(), "application/json")
        reply = fuzzer.send("/predict", body, {"content-type": content})
        if wanted.errors[0]:
            assert reply.status == 422
            return
        assert reply.status == 200
        if kind == "table":
            assert reply.json["prediction"] == pytest.approx(wanted.columns["prediction"][0], rel=1e-5)
            return
        columns = {name: float(cells[0]) for name, cells in wanted.columns.items() if name.startswith("prob_")}
        assert [*reply.json["probabilities"].values()] == pytest.approx([*columns.values()], rel=1e-4, abs=1e-6)

    with Fuzzer(served) as fuzzer:
        send()
    print(served.export.parents[2].name, dict(fuzzer.found))
