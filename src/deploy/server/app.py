"""The addresses of the server, and what is done at each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from src.deploy.server import inference_protocol as protocol
from src.deploy.server.connections import GONE
from src.deploy.server.middleware import INPUTS, ROUTE
from src.deploy.server.model import Answer
from src.deploy.server.openapi import openapi
from src.deploy.server.pages import DOCS, PAGE, page
from src.deploy.server.parsing import parse_form, parse_request
from src.deploy.server.refused import Refused, json_response
from src.deploy.server.service import Service
from src.inference.exported import CERTIFICATE

LARGE = 2**16
"""Bodies above this many bytes are parsed, and their answers written, in a thread, so that other requests go on."""
Result = TypeVar("Result")


def build(service: Service) -> Starlette:
    """Return the application; `middleware.Middleware` goes around it."""
    at = partial(_route, service)
    v2 = "/v2/models/{name}"
    routes = [
        at("/", _page, "GET"),
        at("/docs", _docs, "GET"),
        at("/openapi.json", _openapi, "GET"),
        at("/predict", _predict, "POST"),
        at("/model", _model, "GET"),
        at("/metrics", _metrics, "GET"),
        at("/health/live", _live, "GET"),
        at("/health/ready", _ready, "GET"),
        at("/v2", _v2, "GET"),
        at("/v2/health/live", _live, "GET"),
        at("/v2/health/ready", _ready, "GET"),
        at(v2, _v2_model, "GET"),
        at(f"{v2}/ready", _v2_ready, "GET"),
        at(f"{v2}/infer", _v2_infer, "POST"),
        at(f"{v2}/versions/{{version}}", _v2_model, "GET"),
        at(f"{v2}/versions/{{version}}/ready", _v2_ready, "GET"),
        at(f"{v2}/versions/{{version}}/infer", _v2_infer, "POST"),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _refused, 500: _failed})


def _route(service: Service, path: str, do: Callable[..., Any], method: str) -> Route:
    async def endpoint(request: Request) -> Response:
        request.scope[ROUTE] = path
        return await do(service, request)

    return Route(path, endpoint, methods=[method], include_in_schema=False)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    why = error.detail
    if why == "Not Found":  # Starlette's words
        why = "no such address. /docs lists those there are."
    elif why == "Method Not Allowed":
        why = f"{request.method} is not answered here. Use {(error.headers or {})['Allow']}."
    return json_response({"error": why}, error.status_code, error.headers)


async def _failed(_: Request, __: Exception) -> Response:
    return json_response({"error": "the server failed; its log says how."}, 500)  # `Middleware` writes the log


async def in_thread(large: bool, do: Callable[..., Result], *args: Any) -> Result:
    """Return what a function returns, called in a thread where it takes long."""
    return await asyncio.to_thread(do, *args) if large else do(*args)


async def _predict(service: Service, request: Request) -> Response:
    with service.bodies.reading() as body:
        contents = await body.read(request.headers, request.receive)
        model = service.model
        form = await parse_form(request.headers, contents)
        parsed = await in_thread(len(contents) > LARGE, parse_request, model, request.headers, contents, form)
        answers = await _answers(service, request, parsed.items)
        if not parsed.single:
            return await in_thread(len(contents) > LARGE, json_response, answers)
        return json_response(answers[0], 422 if "error" in answers[0] else 200)


async def _answers(service: Service, request: Request, items: Any) -> list[Answer]:
    gone = request.scope.get(GONE, lambda: False)
    with service.metrics.waiting.track_inprogress():
        answers = await service.batcher.answer(items, gone)
    bad = sum("error" in answer for answer in answers)
    request.scope[INPUTS] = len(answers)
    service.metrics.inputs.labels("answer").inc(len(answers) - bad)
    service.metrics.inputs.labels("error").inc(bad)
    return answers


async def _live(_: Service, __: Request) -> Response:
    return json_response({"live": True})


async def _ready(service: Service, _: Request) -> Response:
    return json_response({"ready": service.ready}, 200 if service.ready else 503)


async def _metrics(service: Service, _: Request) -> Response:
    return Response(service.metrics.text(), media_type=service.metrics.content_type)


async def _page(_: Service, __: Request) -> Response:
    return page(PAGE)


async def _docs(_: Service, __: Request) -> Response:
    return page(DOCS)


async def _openapi(service: Service, _: Request) -> Response:
    return json_response(openapi(service.model, service.flags.token is not None))


async def _model(service: Service, _: Request) -> Response:
    model = service.model
    spec = model.exported.answers.spec
    return json_response(
        {
            "name": model.name,
            "input": model.kind,
            "columns": model.columns,
            "example": model.example,
            "target": {"kind": spec.target.kind, "name": spec.target.name},
            "classes": list(spec.classes),
            CERTIFICATE.removesuffix(".json"): model.exported.certificate,
        }
    )


# ----------------------------------------------------------------------------------- Open Inference Protocol, version 2
def _require_name(service: Service, request: Request) -> None:
    name, version = request.path_params["name"], request.path_params.get("version", "1")
    if (name, version) != (service.model.name, "1"):
        raise Refused(404, f"no model {json.dumps(name)} {version}. Served is {service.model.name}, version 1.")


async def _v2(_: Service, __: Request) -> Response:
    return json_response({"name": "leyden", "version": "2", "extensions": list(protocol.EXTENSIONS)})


async def _v2_model(service: Service, request: Request) -> Response:
    _require_name(service, request)
    return json_response(protocol.metadata(service.model))


async def _v2_ready(service: Service, request: Request) -> Response:
    _require_name(service, request)
    return json_response({"name": service.model.name, "ready": service.ready}, 200 if service.ready else 503)


async def _v2_infer(service: Service, request: Request) -> Response:
    with service.bodies.reading() as body:
        contents = await body.read(request.headers, request.receive)
        _require_name(service, request)
        model, length = service.model, request.headers.get(protocol.HEADER_LENGTH)
        parsed = await in_thread(len(contents) > LARGE, protocol.parse_inference, model, contents, length)
        answers = await _answers(service, request, parsed.items)
        text, headers = await in_thread(len(contents) > LARGE, protocol.encode_answers, model, parsed, answers)
        return Response(text, headers=headers)
