"""Slow: the server under load while it ends, and under thousands of requests that nobody should send."""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import Exports
from servers import Served, serving

from experiments.tables import TableRegression

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
