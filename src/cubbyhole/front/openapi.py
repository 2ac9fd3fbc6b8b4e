# SPDX-License-Identifier: Apache-2.0
"""What the OpenAPI document says about model paths, whose bodies FastAPI never sees.

A pydantic model named by `decode_request` or by the spec becomes the request body, one named by `encode_response` the answer.

See:   routes.py, which registers the paths.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

REFERENCE = "#/components/schemas/{model}"
FORM_TYPES = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")


def _hint(function: Callable[..., Any], name: str) -> Any:
    try:
        return get_type_hints(inspect.unwrap(function)).get(name)
    except (NameError, TypeError):  # a name that exists only while type checking says nothing here
        return None


def _model(hint: Any) -> type[BaseModel] | None:
    return hint if isinstance(hint, type) and issubclass(hint, BaseModel) else None


def request_model(lit_api: Any) -> type[BaseModel] | None:
    """Return the pydantic model of an API's requests, if it has one."""
    own = _model(_hint(lit_api.decode_request, "request"))
    return own or _model(getattr(lit_api.spec, "request_model", None))


def response_model(lit_api: Any) -> type[BaseModel] | None:
    """Return the pydantic model of an API's answers, if it has one."""
    return _model(_hint(lit_api.encode_response, "return"))


def _schema(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def describe(lit_api: Any, *, stream: bool) -> dict[str, Any]:
    """Return the OpenAPI operation of an API, but for its path."""
    model = request_model(lit_api)
    content: dict[str, Any] = {media: {"schema": {}} for media in FORM_TYPES}
    if model is not None:
        content = {"application/json": {"schema": _schema(model)}}
    operation: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    answer = response_model(lit_api)
    if answer is not None and not stream:
        ok = {"description": "Successful Response"}
        ok_content = {"content": {"application/json": {"schema": _schema(answer)}}}
        operation["responses"] = {"200": ok | ok_content}
    return operation


def add_models(app: FastAPI, lit_apis: list[Any]) -> None:
    """Have the app's OpenAPI document define the models that `describe` names."""
    requests = [(model, "validation") for api in lit_apis if (model := request_model(api))]
    answers = [(model, "serialization") for api in lit_apis if (model := response_model(api))]
    if not requests and not answers:
        return
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            _, defined = models_json_schema([*requests, *answers], ref_template=REFERENCE)  # type: ignore[list-item]
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            for name, model in defined.get("$defs", {}).items():
                components.setdefault(name, model)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents for extending its schema
