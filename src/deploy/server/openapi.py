"""The description of the API, as OpenAPI 3.1 has it, for the model that is served."""

from __future__ import annotations

from typing import Any

from src.deploy.server.inference_protocol import NUMBERS
from src.deploy.server.model import Model

JSON = "application/json"
WHY = {
    400: "Malformed: JSON, a form or a tensor.",
    401: "Another token is needed.",
    404: "No such model.",
    408: "The request came too slowly.",
    411: "No length.",
    413: "Too large, or too many inputs.",
    415: "Another content type is needed.",
    422: "Fields are missing, the body is empty, or the input cannot be read.",
    503: "Busy, or not ready; Retry-After says when to come again.",
}


def openapi(model: Model, token: bool) -> dict[str, Any]:
    """Return the description; `token` says whether one is needed."""
    description: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"{model.name}, served by Leyden",
            "version": "1",
            "description": "One bad input of several fails alone: its answer says why. Extra fields are named.",
        },
        "paths": {
            "/predict": {"post": _predict(model)},
            "/model": {"get": _get("What goes in, what comes out, and the certificate.", token)},
            "/health/live": {"get": _get("The process is there.", False)},
            "/health/ready": {"get": _get("The worked examples came out as certified; 503 until then.", False, 503)},
            "/metrics": {"get": _get("Counters for Prometheus.", token, kind="text/plain")},
            "/v2": {"get": _get("Open Inference Protocol 2: the server.", token)},
            f"/v2/models/{model.name}": {"get": _get("Open Inference Protocol 2: the model.", token)},
            f"/v2/models/{model.name}/ready": {"get": _get("Whether the model is ready.", token, 503)},
            f"/v2/models/{model.name}/infer": {"post": _infer(model)},
        },
        "components": {"schemas": {"Answer": _answer(model), "Error": ERROR, "Input": _input(model)}},
    }
    if token:
        description["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        description["security"] = [{"token": []}]
    return description


ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(one): {"description": WHY[one], "content": {JSON: {"schema": _ref("Error")}}} for one in statuses}


def _get(summary: str, token: bool, *statuses: int, kind: str = JSON) -> dict[str, Any]:
    schema = {"type": "object"} if kind == JSON else {"type": "string"}
    answer = {"200": {"description": "Found.", "content": {kind: {"schema": schema}}}}
    for status in statuses:
        answer[str(status)] = {"description": WHY[status], "content": {JSON: {"schema": schema}}}
    return {"summary": summary, "responses": answer | _errors(*((401,) if token else ()))} | (
        {} if token else {"security": []}
    )


def _predict(model: Model) -> dict[str, Any]:
    answer = {"oneOf": [_ref("Answer"), {"type": "array", "items": {"anyOf": [_ref("Answer"), _ref("Error")]}}]}
    return {
        "summary": "Predict one input, or several.",
        "description": "A single input has a single answer, several have a list.",
        "requestBody": {"required": True, "content": _bodies(model)},
        "responses": {"200": {"description": "Answered.", "content": {JSON: {"schema": answer}}}}
        | _errors(400, 401, 408, 411, 413, 415, 422, 503),
    }


def _bodies(model: Model) -> dict[str, Any]:
    one_or_more = {"schema": {"oneOf": [_ref("Input"), {"type": "array", "items": _ref("Input"), "minItems": 1}]}}
    if model.example is not None:
        one_or_more["example"] = {"text": model.example} if model.kind == "text" else model.example
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    form = {"schema": {"type": "object", "properties": {"file": files}, "required": ["file"]}}
    text = {"schema": {"type": "string", "minLength": 1}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    match model.kind:
        case "image":
            return {"multipart/form-data": form, "image/*": binary, "application/octet-stream": binary}
        case "text":
            return {JSON: one_or_more, "text/plain": text, "text/csv": text, "multipart/form-data": form}
        case _:
            return {JSON: one_or_more, "text/csv": text, "multipart/form-data": form}


def _input(model: Model) -> dict[str, Any]:
    match model.kind:
        case "image":
            return {"type": "string", "format": "binary", "description": "The contents of an image file."}
        case "text":
            text = {"type": "string", "minLength": 1}
            names = model.text_columns
            objects = [{"type": "object", "properties": {name: text}, "required": [name]} for name in names]
            return {"anyOf": [*objects, text]}
        case _:
            columns = {name: _cell(column) for name, column in model.columns.items()}
            return {"type": "object", "properties": columns, "required": list(columns)}


def _cell(column: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a cell: a number as such or as text, and null or '' where there is none."""
    match column["kind"]:
        case "number":
            return {"type": ["number", "string", "null"]}
        case "date":
            return {"type": ["string", "null"], "description": "A date, as the training rows had it."}
        case _:
            known = {"examples": [value for value in column["values"] if value][:20]}
            return {"type": ["string", "number", "boolean", "null"]} | known


def _answer(model: Model) -> dict[str, Any]:
    number = {"type": "number"}
    classes = list(model.classes)
    shares = {"type": "object", "properties": dict.fromkeys(classes, number), "required": classes}
    match model.exported.answers.spec.target.kind:
        case "single_label":
            properties = {"label": {"type": "string", "enum": classes}, "probabilities": shares}
        case "multi_label":
            labels = {"type": "array", "items": {"type": "string", "enum": classes}}
            properties = {"labels": labels, "probabilities": shares}
        case _:
            there = [name for name in ("prediction", "lower", "upper") if name in model.exported.output_names]
            properties = dict.fromkeys(there, number)
    ignored = {"type": "array", "items": {"type": "string"}, "description": "Fields that the model does not see."}
    return {"type": "object", "properties": properties | {"ignored": ignored}, "required": list(properties)}


def _infer(model: Model) -> dict[str, Any]:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string", "enum": list(model.fields)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
            "datatype": {"type": "string", "enum": ["BYTES", *(NUMBERS if model.kind == "table" else ())]},
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
    }
    request = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "items": tensor, "minItems": 1},
            "outputs": {"type": "array", "items": {"type": "object"}},
        },
    }
    response = {"type": "object", "required": ["model_name", "outputs"]}
    return {
        "summary": "Open Inference Protocol 2: inference.",
        "description": "Images and texts are one tensor of BYTES; each column of a table is a tensor. Tensors may be "
        "binary, as Triton has them.",
        "requestBody": {"required": True, "content": {JSON: {"schema": request}}},
        "responses": {"200": {"description": "Answered.", "content": {JSON: {"schema": response}}}}
        | _errors(400, 401, 404, 408, 411, 413, 415, 422, 503),
    }
