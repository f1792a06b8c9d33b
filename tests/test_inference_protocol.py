"""The Open Inference Protocol, as Triton's client speaks it, and as other clients misspell it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import Exports
from servers import Served, serving
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from experiments.digits import DigitsCNN
from experiments.tables import TableRegression
from experiments.texts import TextsMultiLabel

COLUMNS = {"area": 80.5, "rooms": 3, "town": "Leyden", "sold": "2004-05-15", "heating": "gas", "size": "small"}


@pytest.fixture(scope="module", params=[DigitsCNN, TextsMultiLabel, TableRegression], ids=lambda kind: kind.__name__)
def served(
    request: pytest.FixtureRequest, exports: Exports, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with serving(exports(request.param), tmp_path_factory.mktemp("v2")) as found:
        yield found


@pytest.fixture
def client(served: Served) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as found:
        yield found


def inputs_of(served: Served, *, binary: bool = True) -> tuple[str, list[Any], list[Any]]:
    """Return the model's name, two inputs as tensors, and the same for /predict."""
    model = served.get("/model").json
    if model["input"] == "image":
        files = sorted((served.export / "examples").glob("*.png"))[:2]
        raw: list[Any] = [path.read_bytes() for path in files]
        tensors = {"image": np.array(raw, object)}
    elif model["input"] == "text":
        raw = ["the film was fine", "très long"]
        tensors = {"text": np.array([one.encode() for one in raw], object)}
    else:
        raw = [COLUMNS, COLUMNS | {"rooms": 5, "area": 31.25}]
        tensors = {
            name: np.array(
                [row[name] for row in raw], np.float64 if name == "area" else None if name == "rooms" else object
            )
            for name in COLUMNS
        }
    found = []
    for name, values in tensors.items():
        kind = {"f": "FP64", "i": "INT64"}.get(values.dtype.kind, "BYTES")
        one = triton.InferInput(name, [2, 1] if name == "town" else [2], kind)
        one.set_data_from_numpy(values.reshape(one.shape()), binary_data=binary)
        found.append(one)
    return model["name"], found, raw


def numbers(found: Any, name: str) -> Any:
    """Return an output; the client's types allow for there being none."""
    return found.as_numpy(name)


def said_of(served: Served, raw: list[Any]) -> list[dict[str, Any]]:
    if isinstance(raw[0], bytes):
        return [served.predict(one, "image/png").json for one in raw]
    return served.predict_json(raw).json


def test_a_real_client_gets_the_same_answers_as_predict(served: Served, client: triton.InferenceServerClient) -> None:
    name, inputs, raw = inputs_of(served)
    found = client.infer(name, inputs, request_id="7")
    assert found.get_response()["id"] == "7"
    for row, one in enumerate(said_of(served, raw)):
        if "prediction" in one:
            assert numbers(found, "prediction")[row] == pytest.approx(one["prediction"], rel=1e-6)
            continue
        assert numbers(found, "probabilities")[row] == pytest.approx([*one["probabilities"].values()], rel=2e-5)
        if "label" in one:
            assert numbers(found, "label")[row].decode() == one["label"]
        else:
            assert numbers(found, "labels")[row].decode() == ";".join(one["labels"])


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_are_those_asked_for_as_json_or_binary(
    served: Served, client: triton.InferenceServerClient, binary: bool
) -> None:
    name, inputs, _ = inputs_of(served)
    wanted = client.get_model_metadata(name)["outputs"][0]
    found = client.infer(name, inputs, outputs=[triton.InferRequestedOutput(wanted["name"], binary_data=binary)])
    [output] = found.get_response()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == (wanted["name"], wanted["datatype"], [2])
    assert ("data" in output) != binary
    assert len(numbers(found, wanted["name"])) == 2


def test_inputs_may_be_json_but_for_images(served: Served, client: triton.InferenceServerClient) -> None:
    if served.get("/model").json["input"] == "image":
        body = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}
        assert "no binary BYTES" in served.ask("POST", "/v2/models/DigitsCNN/infer", json.dumps(body)).error
        return
    name, as_json, raw = inputs_of(served, binary=False)
    _, as_binary, _ = inputs_of(served)
    one, other = (client.infer(name, inputs).get_response()["outputs"] for inputs in (as_json, as_binary))
    assert [output["name"] for output in one] == [output["name"] for output in other]
    wanted = client.get_model_metadata(name)["outputs"][0]["name"]
    first, second = (numbers(client.infer(name, inputs), wanted) for inputs in (as_json, as_binary))
    assert first.tolist() == second.tolist()
    row = raw[0] if isinstance(raw[0], dict) else {"text": raw[0]}
    tensors = [{"name": key, "shape": [1], "datatype": "BYTES", "data": [str(cell)]} for key, cell in row.items()]
    reply = served.ask("POST", f"/v2/models/{name}/infer", json.dumps({"id": None, "inputs": tensors}))
    assert (reply.status, "id" in reply.json) == (200, False)


def test_health_and_metadata(served: Served, client: triton.InferenceServerClient) -> None:
    name = served.get("/model").json["name"]
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    assert not client.is_model_ready("Other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    found = client.get_model_metadata(name)
    assert (found["name"], found["versions"]) == (name, ["1"])
    assert {one["datatype"] for one in found["inputs"]} == {"BYTES"}


def test_errors_of_the_client_are_told_it(served: Served, client: triton.InferenceServerClient) -> None:
    name, inputs, _ = inputs_of(served)
    with pytest.raises(InferenceServerException, match="no output is called"):
        client.infer(name, inputs, outputs=[triton.InferRequestedOutput("logits")])
    with pytest.raises(InferenceServerException, match="no model"):
        client.infer("Other", inputs)
    strange = triton.InferInput("pixels", [1], "FP32")
    strange.set_data_from_numpy(np.zeros(1, np.float32))
    with pytest.raises(InferenceServerException, match=r"missing|no input is called"):
        client.infer(name, [strange])
    if len(inputs) == 1:  # an image or a text; cells of a table may be numbers
        number = triton.InferInput(inputs[0].name(), [1], "FP32")
        number.set_data_from_numpy(np.zeros(1, np.float32))
        with pytest.raises(InferenceServerException, match="of datatype FP32, but BYTES is expected"):
            client.infer(name, [number])
    with pytest.raises(InferenceServerException, match="comes twice"):
        client.infer(name, [inputs[0], inputs[0]])


TENSOR = {"name": "area", "shape": [1], "datatype": "FP32", "data": [1.5]}


@pytest.mark.parametrize(
    ("body", "length", "status"),
    [
        ("[]", None, 400),
        ("{}", None, 400),
        ('{"inputs": 3}', None, 400),
        ('{"inputs": []}', None, 422),
        ('{"inputs": [3]}', None, 400),
        (json.dumps({"inputs": [TENSOR | {"shape": [2]}]}), None, 400),
        (json.dumps({"inputs": [TENSOR | {"shape": [-1]}]}), None, 400),
        (json.dumps({"inputs": [TENSOR | {"shape": [10**30]}]}), None, 400),
        (json.dumps({"inputs": [TENSOR | {"shape": [1, 5]}]}), None, 400),
        (json.dumps({"inputs": [TENSOR | {"shape": []}]}), None, 400),
        (json.dumps({"inputs": [TENSOR | {"datatype": "FP128"}]}), None, 400),
        (json.dumps({"inputs": [TENSOR | {"data": [{}]}]}), None, 400),
        (json.dumps({"inputs": [TENSOR | {"data": 1}]}), None, 400),
        (json.dumps({"inputs": [TENSOR | {"parameters": {"binary_data_size": 99}}]}), None, 400),
        (json.dumps({"inputs": [TENSOR | {"parameters": {"binary_data_size": -1}}]}), None, 400),
        (json.dumps({"inputs": [TENSOR], "outputs": [3]}), None, 422),
        ("{}", "-1", 400),
        ("{}", "3", 400),
        ("{}", "1e1", 400),
        ("{", "1", 400),
        ("{}", "9" * 5000, 400),
        ("[" * 200_000, None, 413),
    ],
)
def test_malformed_requests_are_refused(served: Served, body: str, length: str | None, status: int) -> None:
    name = served.get("/model").json["name"]
    headers = {} if length is None else {"inference_header_content_length": length}
    reply = served.ask("POST", f"/v2/models/{name}/infer", body, **headers)
    assert reply.status == status
    assert reply.error
