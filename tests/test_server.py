"""The server: answers as the export's, bad input of every kind, limits, and an end in order. All over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import uvicorn
from conftest import Exports, Script
from PIL import Image
from servers import Reply, Served, form, serving
from starlette.datastructures import Headers

from experiments.digits import DigitsCNN
from experiments.tables import TableRegression
from experiments.texts import TextsMultiLabel
from src.configs.errors import InputError
from src.deploy import worked
from src.deploy.server import process
from src.deploy.server.app import build
from src.deploy.server.connections import GONE, Server
from src.deploy.server.flags import ServeFlags
from src.deploy.server.listener import open_listener
from src.deploy.server.middleware import Middleware
from src.deploy.server.model import Model, open_model
from src.deploy.server.openapi import openapi
from src.deploy.server.parsing import parse_request
from src.deploy.server.refused import Refused
from src.deploy.server.service import Service
from src.deploy.server.signals import ending_signals
from src.inference import exported
from src.resources.files import digest_of

TOKEN = "a secret"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def digits(home: Path, exports: Exports) -> Iterator[Served]:
    """A server of images, with a token and small limits."""
    flags = ("--max-body", "1", "--timeout", "1", "--token", TOKEN)
    with serving(exports(DigitsCNN), home / "images", *flags) as served:
        yield served


@pytest.fixture(scope="module")
def reviews(home: Path, exports: Exports) -> Iterator[Served]:
    """A server of texts, in two processes."""
    with serving(exports(TextsMultiLabel), home / "texts", "--workers", "2") as served:
        yield served


@pytest.fixture(scope="module")
def priced(home: Path, exports: Exports) -> Iterator[Served]:
    """A server of rows of a table."""
    with serving(exports(TableRegression), home / "rows") as served:
        yield served


AUTH = {"authorization": f"Bearer {TOKEN}"}


def png(seed: int = 0, size: int = 28) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def expected(served: Served, inputs: list[Any]) -> list[dict[str, Any]]:
    """Return what the export itself says."""
    found = exported.load(served.export, threads=1).predict(inputs).frame()
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def house(**changes: Any) -> dict[str, Any]:
    row = {"area": 80.5, "rooms": 3, "town": "Leyden", "sold": "2004-05-15", "heating": "gas", "size": "small"}
    return row | changes


# ------------------------------------------------------------------------------------------------------- right answers
def test_images_are_answered_as_the_export_answers_them_in_whatever_way_they_come(digits: Served) -> None:
    files = [png(seed) for seed in range(5)]
    body, kind = form(*files, names=("a.png", "../../etc/passwd", "b\\..\\c.png", "%00", "a.png"))
    many = digits.ask("POST", "/predict", body, kind, **AUTH).json
    wanted = expected(digits, files)
    assert [one["label"] for one in many] == [one["label"] for one in wanted]
    for found, row in zip(many, wanted, strict=True):
        assert found["probabilities"] == pytest.approx({str(n): row[f"prob_{n}"] for n in range(10)}, rel=2e-5)
    alone = digits.ask("POST", "/predict", *form(files[2]), **AUTH).json
    raw = digits.ask("POST", "/predict", files[2], "image/png", **AUTH).json
    assert alone == raw
    assert raw["label"] == many[2]["label"]


def test_texts_are_answered_as_the_export_answers_them(reviews: Served) -> None:
    texts = ["the film was fine", "dull plot, très long", "film film film"]
    wanted = expected(reviews, texts)
    many = reviews.predict_json([{"text": text} for text in texts]).json
    for found, row in zip(many, wanted, strict=True):
        assert ";".join(found["labels"]) == row["labels"]
        assert found["probabilities"] == pytest.approx({n: row[f"prob_{n}"] for n in ("film", "plot")}, rel=2e-5)
    table = "text,stars\n" + "".join(f'"{text}",1\n' for text in texts)
    same = [
        reviews.predict_json(texts),
        reviews.predict(table, "text/csv"),
        reviews.ask("POST", "/predict", *form(*(text.encode() for text in texts))),
    ]
    for reply in same:
        assert [one["labels"] for one in reply.json] == [one["labels"] for one in many]
    for name, type_ in (("q.CSV", ""), ("q", "Content-Type: text/csv; charset=utf-8\r\n")):
        body, kind = form(table.encode(), names=(name,))
        same.append(reviews.ask("POST", "/predict", body.replace(b"\r\n\r\n", f"\r\n{type_}\r\n".encode(), 1), kind))
    for reply in same[-2:]:
        assert [one["labels"] for one in reply.json] == [one["labels"] for one in many]
    alone = [
        reviews.predict_json({"text": texts[1]}),
        reviews.predict_json(texts[1]),
        reviews.predict(texts[1].encode("latin-1"), "text/plain; charset=latin-1"),
        reviews.predict(json.dumps({"text": texts[1]}), "application/x-www-form-urlencoded"),  # curl -d
    ]
    assert [reply.json["labels"] for reply in alone] == [many[1]["labels"]] * 4


def test_rows_are_answered_as_the_export_answers_them(priced: Served) -> None:
    given = [house(), house(area="", town="Delft"), house(rooms=6, heating=None, sold="2015-01-02")]
    as_text = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in given]
    wanted = [one["prediction"] for one in expected(priced, as_text)]
    many = priced.predict_json(given).json
    assert [one["prediction"] for one in many] == pytest.approx(wanted, rel=1e-5)
    file = io.StringIO()
    writer = csv.DictWriter(file, [*given[0]])
    writer.writeheader()
    writer.writerows(given)
    assert [one["prediction"] for one in priced.predict(file.getvalue(), "text/csv").json] == pytest.approx(
        wanted, rel=1e-5
    )
    assert priced.predict_json(given[0]).json["prediction"] == pytest.approx(wanted[0], rel=1e-5)
    assert len({*wanted}) == 3


def test_a_text_is_found_by_the_name_of_the_runs_column_and_as_text(reviews: Served) -> None:
    model = open_model(reviews.export, threads=1)
    [how] = model.exported.preparations
    other = replace(model, exported=replace(model.exported, preparations=[replace(cast(Any, how), text_column="body")]))
    for name in ("text", "body"):
        for kind, body in (("application/json", json.dumps({name: "a film"})), ("text/csv", f"{name},x\na film,1\n")):
            [item] = parse_request(other, Headers({"content-type": kind}), body.encode()).items
            assert (item.raw, item.error) == ("a film", "")
    assert other.item({"text": "of others", "body": "of the run"}) == ("of the run", "", ("text",))
    assert [*openapi(other, False)["components"]["schemas"]["Input"]["anyOf"][0]["properties"]] == ["body"]
    with pytest.raises(Refused, match="no column body or text"):
        parse_request(other, Headers({"content-type": "text/csv"}), b"a\nb\n")


def test_extra_fields_are_named_and_change_nothing(priced: Served, reviews: Served) -> None:
    found = priced.predict_json(house(colour="red", id="x")).json
    assert found.pop("ignored") == ["colour", "id"]
    assert found == priced.predict_json(house()).json
    assert reviews.predict_json({"text": "a film", "lang": "nl"}).json["ignored"] == ["lang"]


def test_a_number_stays_as_it_was_written(priced: Served) -> None:
    body = json.dumps(house(rooms="ROOMS")).replace('"ROOMS"', "3.0")
    assert priced.predict(body).json == priced.predict(json.dumps(house(rooms="3.0"))).json
    nan = priced.predict(json.dumps(house(area=float("nan"))))  # what Python writes for a missing number
    assert nan.json == priced.predict_json(house(area=None)).json


def test_one_bad_row_fails_alone_and_so_does_one_bad_image(priced: Served, digits: Served) -> None:
    given = [
        house(),
        house(area="wide"),
        {"area": 3},
        house(town=["Ghent"]),
        "Ghent",
        house(rooms=2),
        house(town="\ud800"),
    ]
    found = priced.predict_json(given).json
    assert [("error" in one, "prediction" in one) for one in found] == [
        (bad, not bad) for bad in (False, True, True, True, True, False, True)
    ]
    assert "area: 'wide'" in found[1]["error"]
    assert "rooms, town" in found[2]["error"] or "missing" in found[2]["error"]
    body, kind = form(png(1), b"GIF89a, but no image", png(2)[:60], b"", png(3))
    answers = digits.ask("POST", "/predict", body, kind, **AUTH).json
    assert ["error" in one for one in answers] == [False, True, True, True, False]


def test_requests_at_one_time_get_their_own_answers(priced: Served) -> None:
    areas = np.linspace(30, 200, 60).round(1).tolist()
    wanted = [one["prediction"] for one in expected(priced, [house(area=str(a), rooms="3") for a in areas])]
    found: dict[float, Any] = {}

    def ask(area: float) -> None:
        found[area] = priced.predict_json(house(area=area)).json["prediction"]

    threads = [threading.Thread(target=ask, args=(area,)) for area in areas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[area] for area in areas] == pytest.approx(wanted, rel=1e-5)
    sizes = [line for line in priced.get("/metrics").body.decode().splitlines() if "batch_inputs_bucket" in line]
    in_ones, in_all = (int(float(sizes[at].split()[-1])) for at in (0, -1))
    assert in_ones < in_all  # some went together


def test_ten_thousand_rows_at_once_and_others_have_their_turn(priced: Served) -> None:
    many = [house(area=30 + number / 100) for number in range(10_000)]
    replies: list[Any] = []
    thread = threading.Thread(target=lambda: replies.append(priced.predict_json(many)))
    thread.start()
    assert priced.predict_json(house()).status == 200
    thread.join()
    answers = replies[0].json
    assert len(answers) == 10_000
    assert answers[7_777]["prediction"] == pytest.approx(priced.predict_json(many[7_777]).json["prediction"], rel=1e-5)


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b'{"area": ', "application/json", 400, "malformed JSON"),
        (b"\xff\xfe{}", "application/json", 400, "no UTF-8"),
        (b'{"area": 1, "area": 2}', "application/json", 400, "two keys"),
        (b"[" * 50_000, "application/json", 400, "malformed JSON"),
        (b"[" * 200_000, "application/json", 413, "objects and lists"),
        (b"[]", "application/json", 422, "no input"),
        (b"", "application/json", 422, "empty"),
        (b"{}", "application/json", 422, "6 of the 6 columns are missing: area"),
        (b"17", "application/json", 422, "one row"),
        (b"null", "application/json", 422, "one row"),
        (b'"a text"', "application/json", 422, "one row"),
        (b"a,b\n1\n", "text/csv", 422, "1 fields, but the header has 2"),
        (b"a,b\n", "text/csv", 422, "no input"),
        (b"a,a\n1,2\n", "text/csv", 422, "two columns"),
        (b"x\n" * 150_000, "text/csv", 413, "inputs"),
        (b"{}", "application/xml", 415, "application/json, text/csv"),
        (b"{}", "text/plain", 415, "application/json"),
        (b"{}", "no type at all", 415, "no type at all"),
        (b"{}", ";;;", 415, "content type ;;;: malformed"),
        (b"{}", "json", 415, "content type json: malformed"),
        (b"area=3", "application/x-www-form-urlencoded", 415, "application/json"),
        (b"xx", "multipart/form-data", 400, "multipart"),
        (b"xx", "multipart/form-data; boundary=y", 400, "multipart"),
        (form(b"a,b\n1\n")[0], form()[1], 422, "1 fields"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(priced: Served, body: bytes, kind: str, status: int, said: str) -> None:
    reply = priced.predict(body, kind)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    assert said in reply.error


def test_a_single_bad_input_is_refused(digits: Served, reviews: Served) -> None:
    assert digits.ask("POST", "/predict", b"no image", "image/png", **AUTH).status == 422
    assert reviews.predict_json({"text": " "}).status == 422
    assert reviews.predict_json({"text": 7}).status == 422
    assert reviews.predict('{"text": NaN}').status == 400
    assert reviews.predict_json({"text": "\udfff"}).status == 422
    assert reviews.predict(b"caf\xe9", "text/plain").status == 422
    for charset in ("klingon", "punycode", "undefined", "idna"):
        assert reviews.predict(b"x", f"text/plain; charset={charset}").status == 422
        assert reviews.predict(form(b"x")[0], f"{form()[1]}; charset={charset}").status == 422
    assert reviews.predict("words\nfine\n", "text/csv").error.startswith("no column text")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("DELETE", "/model", 405),
        ("GET", "/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/v2/models/..%2f..%2fetc", 404),
        ("GET", "/v2/models/Other", 404),
        ("GET", "/v2/models/TableRegression/versions/2", 404),
        ("GET", "/v2/models/%00%ff/ready", 404),
        ("PATCH", "/predict", 405),
    ],
)
def test_other_addresses_and_methods(priced: Served, method: str, path: str, status: int) -> None:
    reply = priced.ask(method, path)
    assert reply.status == status
    assert reply.json["error"]
    assert status != 405 or f"Use {reply.headers['allow']}." in reply.error


def test_the_token_is_needed_but_for_probes_and_pages(digits: Served) -> None:
    for path in ("/model", "/metrics", "/openapi.json", "/v2/models/DigitsCNN", "/nothing"):
        assert digits.get(path).status == 401
        assert digits.get(path, authorization="Bearer another").headers["www-authenticate"] == "Bearer"
        assert digits.get(path, authorization=TOKEN).status == 401
        assert digits.get(path, **AUTH).status == (404 if path == "/nothing" else 200)
    assert digits.ask("POST", "/predict", png(), "image/png").status == 401
    for path in ("/", "/docs", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
        assert digits.get(path).status == 200


def test_the_token_may_come_from_the_environment(digits: Served, tmp_path: Path) -> None:
    with serving(digits.export, tmp_path, LEYDEN_TOKEN="from outside") as served:
        assert served.get("/model").status == 401
        assert served.get("/model", authorization="Bearer from outside").status == 200


# --------------------------------------------------------------------------------------------------------------- limits
def chunked(parts: Iterator[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield b"%x\r\n%s\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def raw_reply(connection: socket.socket) -> Reply:
    """Return the reply to what was sent, its connection read no further."""
    with contextlib.closing(http.client.HTTPResponse(connection)) as found:
        found.begin()
        return Reply(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())


def send_all(connection: socket.socket, head: bytes, parts: Iterator[bytes]) -> None:
    """Send on, whether or not the server still listens."""
    try:
        connection.sendall(head)
        for part in parts:
            connection.sendall(part)
    except OSError:
        pass


@pytest.mark.parametrize("length", [True, False], ids=["with its length", "chunked"])
def test_a_body_of_a_hundred_megabytes_is_refused_and_takes_no_memory(digits: Served, length: bool) -> None:
    digits.ask("POST", "/predict", png(), "image/png", **AUTH)
    before = digits.memory
    size = b"content-length: 104857600" if length else b"transfer-encoding: chunked"
    head = f"POST /predict HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: image/png\r\n".encode()
    parts = (bytes(2**20) for _ in range(100))
    with digits.socket() as connection:
        sender = threading.Thread(
            target=send_all, args=(connection, head + size + b"\r\n\r\n", parts if length else chunked(parts))
        )
        sender.start()
        reply = raw_reply(connection)
        assert reply.status == 413
        assert "larger than 1 MiB" in reply.error
        assert reply.headers["connection"] == "close"
        sender.join()
    assert digits.memory - before < 10
    assert digits.get("/health/ready").status == 200


def test_a_client_that_sends_its_headers_or_its_body_too_slowly_is_told_so(digits: Served) -> None:
    with digits.socket() as silent, digits.socket() as head, digits.socket() as body:
        head.sendall(b"GET /health/live HTTP/1.1\r\nhost")
        body.sendall(f"POST /predict HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n".encode())
        body.sendall(b"content-type: image/png\r\ncontent-length: 50\r\n\r\nabc")
        assert raw_reply(head).status == 408
        assert raw_reply(body).status == 408
        assert silent.recv(10) == b""
        assert body.recv(10) == b""


def test_endless_headers_are_refused(digits: Served) -> None:
    with digits.socket() as connection:
        thread = threading.Thread(
            target=send_all,
            args=(connection, b"GET / HTTP/1.1\r\n", (b"a: %s\r\n" % (b"x" * 65536) for _ in range(500))),
        )
        thread.start()
        with pytest.raises((OSError, http.client.HTTPException, AssertionError)):
            assert raw_reply(connection).status < 400
        thread.join()
    assert digits.get("/health/live").status == 200


def test_a_body_without_length_or_with_a_coding_is_refused(digits: Served) -> None:
    with digits.socket() as connection:
        connection.sendall(f"POST /predict HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode())
        assert raw_reply(connection).status == 411
    squeezed = zlib.compress(bytes(10**8))
    reply = digits.ask("POST", "/predict", squeezed, "image/png", content_encoding="deflate", **AUTH)
    assert reply.status == 415
    assert reply.headers["accept-encoding"] == "identity"


def test_an_image_made_to_fill_the_memory_is_refused(digits: Served) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    side = 12_000
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = zlib.compress(bytes(side * (side * 3 + 1)), 9)
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    before = digits.memory
    reply = digits.ask("POST", "/predict", bomb, "image/png", **AUTH)
    assert reply.status == 422
    assert "144 million pixels" in reply.error
    assert digits.memory - before < 10
    assert digits.logged()  # JSON alone, without Pillow's warning


def test_a_jpeg_whose_coefficients_would_fill_the_memory_is_refused(digits: Served) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "jpeg")
    plain = file.getvalue()
    at = plain.index(b"\xff\xc0") + 5
    plain = plain[:at] + struct.pack(">HH", 8000, 8000) + plain[at + 4 :]
    at = plain.index(b"\xff\xda")
    one_component_a_scan = plain[:at] + bytes([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]) + plain[at + 14 :]
    refused, scaled = (
        digits.ask("POST", "/predict", one, "image/jpeg", **AUTH) for one in (one_component_a_scan, plain)
    )
    assert (refused.status, scaled.status) == (422, 200)
    assert "64 million pixels" in refused.error


def test_rows_that_are_too_many_do_not_become_objects(priced: Served) -> None:
    """Line endings."""
    model, headers = open_model(priced.export, threads=1), Headers({"content-type": "text/csv"})
    body = b"a,b\n" + b"1,2\r" * 300_000
    tracemalloc.start()
    with pytest.raises(Refused, match="more than 100,000 inputs"):
        parse_request(model, headers, body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6, "without Arrow's"


def test_a_full_queue_says_when_to_come_back(priced: Served, tmp_path: Path) -> None:
    with serving(priced.export, tmp_path, "--queue", "1") as served:
        replies: list[Any] = []
        body = json.dumps([house()] * 1000)
        threads = [threading.Thread(target=lambda: replies.append(served.predict(body))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {reply.status for reply in replies} == {200, 503}
        busy = next(reply for reply in replies if reply.status == 503)
        assert (busy.headers["retry-after"], "requests wait" in busy.error) == ("1", True)


async def post(service: Service, body: Any, **scope: Any) -> int:
    """Ask a server in this process; return the status."""
    contents, sent = json.dumps(body).encode(), []
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(contents)).encode())]
    there = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}

    async def receive() -> Any:
        return {"type": "http.request", "body": contents}

    async def send(message: Any) -> None:
        sent.append(message)

    await Middleware(build(service), service)(there | scope, receive, send)
    return sent[0]["status"]


def test_large_bodies_are_parsed_in_a_thread_and_what_nobody_waits_for_is_not_computed(
    priced: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}
    item, answers = Model.item, Model.answers

    def watched_item(model: Model, raw: Any) -> Any:
        found["in the loop's thread"] = threading.current_thread() is threading.main_thread()
        return item(model, raw)

    async def check() -> None:
        service = Service(ServeFlags(export=priced.export, no_access_log=True))
        await service.load()
        value = service.metrics.registry.get_sample_value

        def watched_answers(model: Model, outputs: Any) -> Any:
            found["waiting"] = value("leyden_waiting_requests")
            return answers(model, outputs)

        monkeypatch.setattr(Model, "item", watched_item)
        monkeypatch.setattr(Model, "answers", watched_answers)
        assert await post(service, house()) == 200
        assert found == {"in the loop's thread": True, "waiting": 1}
        assert value("leyden_waiting_requests") == 0
        assert await post(service, [house()] * 1000) == 200
        assert not found["in the loop's thread"]
        assert value("leyden_batch_inputs_count") == 2
        assert await post(service, house(), **{GONE: lambda: True}) == 400
        assert value("leyden_batch_inputs_count") == 2

    asyncio.run(check())


# ---------------------------------------------------------------------------------------------- what the server says
def test_the_log_is_json_lines_without_contents(reviews: Served) -> None:
    reviews.predict_json({"text": "a confidential film"})
    reviews.get("/model?secret=confidential")
    reviews.get("/a%0ab")
    while "/a\nb" not in [line["path"] for line in reviews.logged()]:  # it is written after the reply
        time.sleep(0.01)
    found = next(line for line in reversed(reviews.logged()) if line["path"] == "/predict")
    assert (found["method"], found["status"], found["inputs"], found["client"]) == ("POST", 200, 1, "127.0.0.1")
    assert found["ms"] > 0
    assert "confidential" not in reviews.log.read_text("utf-8")


def test_metrics_count_over_all_processes(reviews: Served) -> None:
    def count() -> float:
        text = reviews.get("/metrics").body.decode()
        lines = [line for line in text.splitlines() if line.startswith('leyden_inputs_total{result="answer"}')]
        return float(lines[0].split()[-1])

    reviews.predict_json("a film")
    before = count()
    for _ in range(20):
        reviews.predict_json(["a film", "a plot"])
    assert count() == before + 40


def test_the_model_is_described_with_its_certificate(priced: Served, digits: Served) -> None:
    found = priced.get("/model").json
    assert found["certificate"] == json.loads((priced.export / "certificate.json").read_text("utf-8"))
    assert found["columns"]["town"] == {"kind": "category", "values": ["Ghent", "Leyden", "Utrecht"]}
    assert priced.predict_json(found["example"]).status == 200
    assert digits.get("/model", **AUTH).json["classes"] == [str(number) for number in range(10)]


# ------------------------------------------------------------------------------------------------------ start and end
def listens(served: Served) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", served.port)) == 0


def copied(export: Path, folder: Path) -> Path:
    return shutil.copytree(export, folder / "copy")


def test_bad_flags_and_exports_are_said_at_the_start(priced: Served, script: Script, tmp_path: Path) -> None:
    changed = copied(priced.export, tmp_path)
    with open(changed / "model.onnx", "ab") as file:
        file.write(b" ")
    cases = [
        ((priced.export, "--port", str(priced.port)), f"--port {priced.port}: taken"),
        ((priced.export, "--host", "192.0.2.1"), "--host 192.0.2.1"),
        ((tmp_path, "--port", "0"), "neither an export nor a run"),
        ((changed, "--port", "0", "--workers", "2"), "another SHA-256"),
    ]

    for args, said in cases:
        done = script("serve.py", *args)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), (args, done.stderr)
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1, "also of two processes"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"port": 70000}, "--port 70000: ports are 0 to 65535"),
        ({"port": -1}, "--port -1"),
        ({"workers": 0}, "--workers 0: 1 to "),
        ({"workers": 10_000}, "--workers 10000: 1 to "),
        ({"threads": 0}, "--threads 0"),
        ({"threads": 99_999_999_999}, "--threads 99999999999: 1 to "),
        ({"queue": -5}, "--queue -5"),
        ({"timeout": float("nan")}, "--timeout nan"),
        ({"timeout": 1e-9}, "--timeout 1e-09: 0.1 to 1000000 seconds"),
        ({"max_body": 0}, "--max-body 0"),
        ({"max_body": 1e-9}, "--max-body 1e-09: 0.000001 (1 byte) to 1000000 MiB"),
        ({"max_body": float("inf")}, "--max-body inf: 0.000001 (1 byte) to 1000000 MiB"),
        ({"drain": -1}, "--drain -1"),
        ({"drain": 1e7}, "--drain 1e+07: 0.1 to 1000000 seconds"),
        ({"token": " "}, "--token"),
        ({"token": "snow \N{SNOWMAN}"}, "--token"),
        ({"token": "a\nb"}, "--token"),
    ],
)
def test_a_flag_that_cannot_be_is_refused(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        ServeFlags(export=Path("x"), **flags)


@pytest.mark.parametrize("host", ["no such host", "300.1.1.1", ".", "é..x"])
def test_an_address_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="--host"):
        open_listener(host, 0)


def test_an_empty_token_in_the_environment_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody wanted one."""
    monkeypatch.setenv("LEYDEN_TOKEN", "")
    with pytest.raises(InputError, match=r"^LEYDEN_TOKEN: empty"):
        process.serve(ServeFlags(export=tmp_path, port=0))


def test_an_export_that_does_not_answer_as_certified_is_not_served(
    priced: Served, script: Script, tmp_path: Path
) -> None:
    export = copied(priced.export, tmp_path)
    path = export / "examples" / "examples.json"
    found = json.loads(path.read_text("utf-8"))
    found["examples"][3]["outputs"]["prediction"] *= 1.001
    path.write_text(json.dumps(found), "utf-8")
    certificate = json.loads((export / "certificate.json").read_text("utf-8"))
    certificate["files"]["examples/examples.json"] = digest_of(path)
    (export / "certificate.json").write_text(json.dumps(certificate), "utf-8")
    done = script("serve.py", export, "--port", "0")
    assert done.returncode == 2
    assert "example 3 does not come out as certified" in done.stderr


def test_an_error_of_any_kind_while_loading_names_the_export(priced: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> int:
        raise KeyError("logits")

    monkeypatch.setattr(worked, "require_worked", fail)
    with pytest.raises(InputError, match=re.escape(f"{priced.export}: cannot be loaded (KeyError: 'logits')")):
        asyncio.run(Service(ServeFlags(export=priced.export)).load())


def test_what_was_proved_is_said_once_the_server_is_ready(
    priced: Served, reviews: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    for served in (priced, reviews):
        end = time.monotonic() + 30
        while "ready" not in (said := served.out.read_text("utf-8")):
            assert time.monotonic() < end, said
            time.sleep(0.05)
        assert said.splitlines()[2:] == ["ready      8 worked examples came out as certified"]
    process.say_ready(0)
    assert capsys.readouterr().out.startswith("NOTE       ready, but nothing was proved")


def test_a_run_is_served_by_its_export(priced: Served, tmp_path: Path) -> None:
    run = priced.export.parents[1]
    assert process.export_of(run) == priced.export
    with serving(run, tmp_path) as served:
        assert served.predict_json(house()).json == priced.predict_json(house()).json


@pytest.mark.parametrize("workers", ["1", "2"])
def test_at_sigterm_what_is_accepted_is_answered_and_connections_end_in_order(
    priced: Served, tmp_path: Path, workers: str
) -> None:
    with serving(priced.export, tmp_path, "--workers", workers, "--drain", "20") as served:
        kept, busy = served.connect(), served.connect()
        kept.request("GET", "/health/live")
        kept.getresponse().read()
        many = json.dumps([house()] * 3000)
        busy.request("POST", "/predict", many, {"content-type": "application/json"})
        time.sleep(0.2)
        os.kill(served.process.pid, 15)
        while True:  # each request has its answer, up to the one that says that the connection ends
            time.sleep(0.05)
            kept.request("POST", "/predict", json.dumps(house()), {"content-type": "application/json"})
            last = kept.getresponse()
            assert (last.status, "prediction" in json.loads(last.read())) == (200, True)
            if last.headers["connection"] == "close":
                break
        reply = busy.getresponse()
        assert (reply.status, len(json.loads(reply.read()))) == (200, 3000)
        assert served.process.wait(20) == 0
        kept.close()
        busy.close()
        assert not listens(served)


def test_a_client_that_never_ends_does_not_keep_the_server(priced: Served, tmp_path: Path) -> None:
    with serving(priced.export, tmp_path, "--drain", "1") as served, served.socket() as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\nabc")
        time.sleep(0.2)
        began = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - began < 5


def test_a_process_that_dies_is_replaced(reviews: Served) -> None:
    import psutil

    def children() -> list[psutil.Process]:
        found = psutil.Process(reviews.process.pid).children()
        there = [one for one in found if one.status() != psutil.STATUS_ZOMBIE]
        return [one for one in there if "spawn_main" in " ".join(one.cmdline())]

    before = children()
    assert len(before) == 2
    counts = Path(before[0].environ()["PROMETHEUS_MULTIPROC_DIR"])
    reviews.predict_json(["a film"])
    assert {f"gauge_livesum_{one.pid}.db" for one in before} <= {path.name for path in counts.iterdir()}
    for number, there in ((signal.SIGTERM, before[0]), (signal.SIGKILL, before[1])):
        others = [one for one in children() if one != there]
        there.send_signal(number)
        end = time.monotonic() + 30
        while len(after := [one for one in children() if one != there]) < 2:
            assert reviews.predict_json("a film").status == 200  # by another
            assert time.monotonic() < end
            time.sleep(0.1)
        assert {*others} < {*after}
        assert not (counts / f"gauge_livesum_{there.pid}.db").exists()
    assert reviews.predict_json("a film").status == 200


def test_a_terminal_that_closes_is_a_sigterm_but_for_nohup(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, lambda *_: None)  # which would end this process
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` ignores it
    flags = ServeFlags(export=Path("x"), workers=2)
    found: list[bool] = []

    def supervise(_: Any, __: Any, stop: threading.Event, *___: Any) -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        found.append(stop.wait(5))
        return 0

    async def app(_: Any, __: Any, ___: Any) -> None: ...

    server = Server(uvicorn.Config(app, log_config=None), Service(flags))
    monkeypatch.setattr(process, "_supervise", supervise)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    try:
        with server.capture_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
            assert (server.should_exit, server.force_exit) == (True, False)
        with socket.socket() as listener:
            assert process.run_several(flags, listener) == 0
        assert found == [True]
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert ending_signals() == [signal.SIGTERM, signal.SIGINT]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_processes_whose_first_one_is_killed_end_and_leave_nothing_behind(reviews: Served) -> None:
    """The last test: it ends that server."""
    import psutil

    there = psutil.Process(reviews.process.pid).children()
    [counts] = {Path(one.environ()["PROMETHEUS_MULTIPROC_DIR"]) for one in there if "spawn_main" in str(one.cmdline())}
    assert counts.is_dir()
    reviews.stop(signal.SIGKILL)
    assert not psutil.wait_procs(there, timeout=20)[1]
    assert not counts.exists()
