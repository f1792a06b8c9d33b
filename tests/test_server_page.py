"""Slow: the page of the server, as Chromium shows it: an answer, an error, a token, the keyboard, a phone's width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browser import Chromium
from conftest import Exports
from servers import Served, serving

from experiments.digits import DigitsCNN
from experiments.tables import TableRegression
from experiments.texts import TextsMultiLabel
from src.experiment import Experiment

pytestmark = pytest.mark.slow
ROW = {"area": "80.5", "rooms": "3", "town": "Leyden", "sold": "2004-05-15", "heating": "gas", "size": "small"}


def choose(page: Chromium, path: Path) -> None:
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


def press(page: Chromium, key: str, text: str = "") -> None:
    code = {"Tab": 9, "Enter": 13, " ": 32}[key]
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key, text=text, windowsVirtualKeyCode=code)


def shown(page: Chromium, name: str) -> Any:
    return page.evaluate(f"document.getElementById('{name}').textContent")


def put(page: Chromium, name: str, text: str) -> None:
    page.evaluate(
        f"document.getElementById('{name}').value = {text!r};"
        f"document.getElementById('{name}').dispatchEvent(new Event('input'))"
    )


@pytest.fixture
def page(tmp_path: Path) -> Any:
    with Chromium(tmp_path / "profile", width=390, height=1500) as found:
        yield found


def open_page(page: Chromium, served: Served, width: int = 390) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=1500, deviceScaleFactor=1, mobile=False)
    page.open(f"http://127.0.0.1:{served.port}/")
    page.wait_for("Certificate", "Parity")


def test_an_image_is_answered_and_what_is_none_is_said(exports: Exports, page: Chromium, tmp_path: Path) -> None:
    with serving(exports(DigitsCNN), tmp_path / "server") as served:
        open_page(page, served)
        file = sorted((served.export / "examples").glob("*.png"))[0]
        choose(page, file)
        page.wait_until("document.querySelectorAll('#shares li').length == 10")
        answer = served.predict(file.read_bytes(), "image/png").json
        assert shown(page, "said") == answer["label"]
        first = page.evaluate("document.querySelector('#shares li').textContent")
        assert first.startswith(answer["label"])
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        bad = tmp_path / "no image.png"
        bad.write_text("words", "utf-8")
        choose(page, bad)
        page.wait_until("document.getElementById('why').textContent")
        assert "not an image" in shown(page, "why")
        assert shown(page, "said") == ""


def test_a_text_is_typed_and_sent_by_the_keyboard_alone(exports: Exports, page: Chromium, tmp_path: Path) -> None:
    with serving(exports(TextsMultiLabel), tmp_path / "server") as served:
        open_page(page, served)
        page.evaluate("document.getElementById('words').focus()")
        page.call("Input.insertText", text="a superb film <b>&")
        press(page, "Tab")
        assert page.evaluate("document.activeElement.id") == "go"
        press(page, "Enter", "\r")
        page.wait_until("document.querySelectorAll('#shares li').length == 2")
        labels = served.predict_json({"text": "a superb film <b>&"}).json["labels"]
        assert shown(page, "said") == (", ".join(labels) or "(none of them)")
        put(page, "words", "  ")
        press(page, "Enter", "\r")
        page.wait_until("document.getElementById('why').textContent")
        assert "empty" in shown(page, "why")


@pytest.mark.parametrize("how", ["json", "csv", "by hand"])
def test_a_row_is_pasted_or_filled_in(exports: Exports, page: Chromium, tmp_path: Path, how: str) -> None:
    with serving(exports(TableRegression), tmp_path / "server") as served:
        open_page(page, served)
        if how == "json":
            put(page, "pasted", json.dumps(ROW))
        elif how == "csv":
            put(page, "pasted", f"{','.join(ROW)}\n" + ",".join(f'"{cell}"' for cell in ROW.values()))
        else:
            for number, name in enumerate(served.get("/model").json["columns"]):
                put(page, f"column-{number}", ROW[name])
        page.evaluate("document.getElementById('go').click()")
        page.wait_until("document.getElementById('said').textContent")
        wanted = served.predict_json(ROW).json["prediction"]
        assert float(shown(page, "said")) == pytest.approx(wanted, rel=1e-5)


def test_what_a_pasted_row_lacks_is_said_and_an_old_answer_goes(
    exports: Exports, page: Chromium, tmp_path: Path
) -> None:
    with serving(exports(TableRegression), tmp_path / "server") as served:
        open_page(page, served)
        put(page, "pasted", json.dumps(ROW).replace('"3"', "3.0"))
        number = [*served.get("/model").json["columns"]].index("rooms")
        assert page.evaluate(f"document.getElementById('column-{number}').value") == "3.0"
        page.evaluate("document.getElementById('go').click()")
        page.wait_until("document.getElementById('said').textContent")
        put(page, "pasted", "area,rooms\n1")
        assert (shown(page, "said"), "2 names, but 1 values" in shown(page, "why")) == ("", True)
        put(page, "pasted", '{"colour": "red"}')
        assert "none of its names is a column" in shown(page, "why")
        put(page, "pasted", '{"area": 70, "rooms": 2}')
        assert "left empty: sold, town, heating, size" in shown(page, "why")
        assert (
            page.evaluate("[...document.querySelectorAll('#columns input')].map(one => one.value).join()") == "70,2,,,,"
        )


def test_the_token_is_asked_for(exports: Exports, page: Chromium, tmp_path: Path) -> None:
    with serving(exports(TextsMultiLabel), tmp_path / "server", LEYDEN_TOKEN="open sesame") as served:
        page.open(f"http://127.0.0.1:{served.port}/")
        page.wait_for("a token is needed")
        assert page.evaluate("document.activeElement.id") == "token"
        put(page, "token", "open sesame")
        page.evaluate("document.querySelector('#login button').click()")
        page.wait_for("Certificate", "Parity")


@pytest.mark.parametrize("kind", [DigitsCNN, TextsMultiLabel, TableRegression])
def test_every_field_has_a_name_and_the_api_is_shown(
    exports: Exports, page: Chromium, tmp_path: Path, kind: type[Experiment]
) -> None:
    with serving(exports(kind), tmp_path / "server") as served:
        open_page(page, served)
        nameless = "[...document.querySelectorAll('input, textarea')].filter(one => !one.labels.length).length"
        assert page.evaluate(nameless) == 0
        assert page.evaluate("document.querySelector('a[href=docs]').textContent") == "API"
        page.open(f"http://127.0.0.1:{served.port}/docs")
        page.wait_for("POST /predict", "GET /health/ready", f"/v2/models/{served.get('/model').json['name']}/infer")
