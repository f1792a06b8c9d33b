"""The Open Inference Protocol, version 2, over HTTP: raw images, texts or columns as tensors of BYTES.

https://github.com/kserve/open-inference-protocol; with Triton's extension for binary tensors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from src.configs.labels import LABEL_SEPARATOR
from src.deploy.server.model import Answer, Item, Model
from src.deploy.server.parsing import MAX_INPUTS, parse_json
from src.deploy.server.refused import Refused

HEADER_LENGTH = "inference-header-content-length"
"""Header: how many bytes of the body are JSON; tensors follow."""
EXTENSIONS = ("binary_tensor_data",)
NUMBERS = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
"""Datatype -> that of numpy."""


class Inference(NamedTuple):
    """A request for inference."""

    items: list[Item]
    id: str
    outputs: dict[str, bool]
    """Output that is asked for -> whether as binary."""


def outputs_of(model: Model) -> dict[str, tuple[str, list[int]]]:
    """Return the outputs: name -> datatype and shape; -1 is the number of inputs."""
    match model.exported.answers.spec.target.kind:
        case "single_label":
            return {"label": ("BYTES", [-1]), "probabilities": ("FP32", [-1, len(model.classes)])}
        case "multi_label":
            return {"labels": ("BYTES", [-1]), "probabilities": ("FP32", [-1, len(model.classes)])}
        case _:
            there = [name for name in ("prediction", "lower", "upper") if name in model.exported.output_names]
            return {name: ("FP64", [-1]) for name in there}


def metadata(model: Model) -> dict[str, Any]:
    """Return what a client may know of the model."""
    return {
        "name": model.name,
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in model.fields.items()],
        "outputs": [
            {"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in outputs_of(model).items()
        ],
        "parameters": {"classes": list(model.classes)},
    }


def parse_inference(model: Model, body: bytes, header_length: str | None) -> Inference:
    """Return the request of a body.

    Raises:
        Refused: it is malformed, or lacks an input.
    """
    head, rest = body, b""
    if header_length is not None:
        if not (header_length.isdecimal() and len(header_length) < 12 and int(header_length) <= len(body)):
            shown = header_length[:20]
            raise Refused(400, f"Inference-Header-Content-Length: {shown}, but the body has {len(body)} bytes.")
        head, rest = body[: int(header_length)], body[int(header_length) :]
    request = parse_json(head, _numbers_as_written)
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        raise Refused(400, 'no object with a list of "inputs".')
    tensors = _tensors(model, request["inputs"], rest)
    return Inference(_items(model, tensors), str(request.get("id") or ""), _wanted(model, request))


def _numbers_as_written(text: str) -> Any:
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=lambda name: None if name == "NaN" else name)


def _tensors(model: Model, inputs: Sequence[Any], rest: bytes) -> dict[str, list[Any]]:
    """Return name -> elements; numbers and truth values as text, BYTES as bytes if they came so."""
    tensors: dict[str, list[Any]] = {}
    for one in inputs:
        match one:
            case {"name": str(name), "datatype": str(kind), "shape": list(shape)} if kind in NUMBERS or kind == "BYTES":
                pass
            case _:
                raise Refused(400, f'an input needs "name", "shape" and a "datatype": BYTES, {", ".join(NUMBERS)}.')
        where = f"input {json.dumps(name)}"
        if model.kind != "table" and name in model.fields and kind != "BYTES":
            raise Refused(400, f"{where}: of datatype {kind}, but BYTES is expected.")
        sides = [int(side) for side in shape if isinstance(side, str) and side.isdecimal() and len(side) < 10]
        if len(sides) != len(shape) or not 1 <= len(sides) <= 2 or sides[1:] not in ([], [1]) or sides[0] < 1:
            raise Refused(400, f"{where}: the shape is [n] or [n, 1].")
        if sides[0] > MAX_INPUTS:
            raise Refused(413, f"more than {MAX_INPUTS:,} inputs. Send fewer at once.")
        parameters = one.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            elements = _of_json(one.get("data"), kind, where)
        else:
            if not (isinstance(size, str) and size.isdecimal() and len(size) < 12 and int(size) <= len(rest)):
                raise Refused(400, f"{where}: binary_data_size {size}, but the body has {len(rest)} bytes left.")
            elements, rest = _of_bytes(rest[: int(size)], kind, where), rest[int(size) :]
        if len(elements) != sides[0]:
            raise Refused(400, f"{where}: {len(elements)} elements, but the shape is {sides}.")
        if name in tensors:
            raise Refused(400, f"{where} comes twice.")
        tensors[name] = elements
    if rest:
        raise Refused(400, f"{len(rest)} bytes after the last input.")
    return tensors


def _of_json(data: Any, kind: str, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise Refused(400, f'{where}: no list of "data".')
    flat = [cell for row in data for cell in (row if isinstance(row, list) else [row])]
    if not all(cell is None or isinstance(cell, str | bool) for cell in flat):
        raise Refused(400, f"{where}: an element is no {kind}.")
    return [str(cell).lower() if isinstance(cell, bool) else cell for cell in flat]


def _of_bytes(data: bytes, kind: str, where: str) -> list[Any]:
    if kind != "BYTES":
        dtype = np.dtype(NUMBERS[kind])
        if len(data) % dtype.itemsize:
            raise Refused(400, f"{where}: {len(data)} bytes are no whole number of {kind}.")
        values = np.frombuffer(data, dtype)
        if kind == "BOOL":
            return [str(bool(value)).lower() for value in values]
        return [None if value != value else str(value) for value in values]
    elements, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            raise Refused(400, f"{where}: an element is longer than what is left of the tensor.")
        elements.append(data[at + 4 : end])
        at = end
    return elements


def _items(model: Model, tensors: Mapping[str, Sequence[Any]]) -> list[Item]:
    known = model.fields
    if missing := [name for name in known if name not in tensors]:
        raise Refused(422, f"{len(missing)} of the {len(known)} inputs are missing: {', '.join(missing)}.")
    if strange := [name for name in tensors if name not in known]:
        raise Refused(422, f"no input is called {json.dumps(strange[0])}. There: {', '.join(known)}.")
    if len(sizes := {len(elements) for elements in tensors.values()}) > 1:
        raise Refused(400, f"the inputs have {' and '.join(map(str, sorted(sizes)))} elements, not as many each.")
    if model.kind == "image":
        raw: Sequence[Any] = [one if isinstance(one, bytes) else b"" for one in tensors["image"]]
        if not all(raw):
            raise Refused(422, "an image is no binary BYTES: JSON cannot carry the contents of an image file.")
    elif model.kind == "text":
        raw = [_as_text(one) for one in tensors["text"]]
    else:
        columns = {name: [_as_text(one) for one in tensors[name]] for name in known}
        raw = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    items = [model.item(one) for one in raw]
    if wrong := next((f"input {row}: {item.error}." for row, item in enumerate(items) if item.error), ""):
        raise Refused(422, wrong)
    return items


def _as_text(one: Any) -> str | None:
    if not isinstance(one, bytes):
        return one
    try:
        return one.decode()
    except UnicodeDecodeError as error:
        raise Refused(422, f"an element of BYTES is no UTF-8 (byte {error.start}).") from None


def _wanted(model: Model, request: Mapping[str, Any]) -> dict[str, bool]:
    """Return which outputs are asked for, and whether as binary."""
    there, wanted = outputs_of(model), request.get("outputs")
    parameters = request.get("parameters")
    binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    if wanted is None or wanted == []:
        return dict.fromkeys(there, binary)
    requested: dict[str, bool] = {}
    for one in wanted if isinstance(wanted, list) else [wanted]:
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str) or name not in there:
            raise Refused(400, f"no output is called {json.dumps(name)}. There: {', '.join(there)}.")
        how = one.get("parameters")
        requested[name] = how.get("binary_data", binary) is True if isinstance(how, dict) else binary
    return requested


def encode_answers(model: Model, request: Inference, answers: Sequence[Answer]) -> tuple[bytes, dict[str, str]]:
    """Return the body of an answer, and its headers.

    Raises:
        Refused: an input has no answer; the protocol knows no answer for a part of them.
    """
    if wrong := next((f"input {row}: {one['error']}." for row, one in enumerate(answers) if "error" in one), ""):
        raise Refused(422, wrong)
    there = outputs_of(model)
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, binary in request.outputs.items():
        kind, shape = there[name]
        values = [_element(answer[name]) for answer in answers]
        output: dict[str, Any] = {"name": name, "datatype": kind, "shape": [len(answers), *shape[1:]]}
        if binary:
            tail.append(_to_bytes(values, kind))
            output["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            output["data"] = [cell for row in values for cell in (row if isinstance(row, list) else [row])]
        outputs.append(output)
    head = {"model_name": model.name, "model_version": "1", "outputs": outputs} | (
        {"id": request.id} if request.id else {}
    )
    text = json.dumps(head).encode()
    if not tail:
        return text, {"content-type": "application/json"}
    return b"".join([text, *tail]), {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(text))}


def _element(value: Any) -> Any:
    """Return a value of an answer as a tensor has it."""
    if isinstance(value, dict):
        return [*value.values()]
    return LABEL_SEPARATOR.join(value) if isinstance(value, list) else value


def _to_bytes(values: Sequence[Any], kind: str) -> bytes:
    if kind == "BYTES":
        return b"".join(struct.pack("<I", len(text := value.encode())) + text for value in values)
    return np.array(values, NUMBERS[kind]).tobytes()
