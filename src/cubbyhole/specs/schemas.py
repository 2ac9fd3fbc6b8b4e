# SPDX-License-Identifier: Apache-2.0
"""JSON schemas of functions and models, for tools.

See:  specs/mcp.py
"""

from __future__ import annotations

import inspect
import types
import typing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    list: "array",
    dict: "object",
}
_BOUNDS = {  # pydantic's names -> JSON schema's
    "ge": "minimum",
    "le": "maximum",
    "gt": "exclusiveMinimum",
    "lt": "exclusiveMaximum",
    "min_length": "minLength",
    "max_length": "maxLength",
}


def is_model(annotation: Any) -> bool:
    """Whether it is a pydantic model class."""
    return isinstance(annotation, type) and hasattr(annotation, "model_json_schema")


def first_parameter(function: Callable[..., Any]) -> tuple[str, Any]:
    """Return the name and annotation of a function's first parameter ("request", None if it has none)."""
    parameter = next(iter(inspect.signature(function).parameters.values()), None)
    if parameter is None:
        return "request", None
    return parameter.name, _annotations(function).get(parameter.name)


def extract_input_schema(target: Any, *, name: str | None = None) -> dict[str, Any]:
    """Describe what a function, or a model, takes.

    Args:
        target: A function: its parameters without `self`, `*args` and `**kwargs`. A pydantic model: one property that is it.
        name: For a model: the property's name; default: the class's in lower case.

    Returns:
        A JSON schema of an object; models are in "$defs".
    """
    defs: dict[str, Any] = {}
    if is_model(target):
        name = name or target.__name__.lower()
        properties = {name: _refer(target, defs)}
        schema: dict[str, Any] = {
            "properties": properties,
            "required": [name],
            "title": f"{target.__name__}Arguments",
            "type": "object",
        }
    else:
        schema = _describe_function(target, defs)
    if defs:
        schema["$defs"] = defs
    return schema


def _describe_function(function: Callable[..., Any], defs: dict[str, Any]) -> dict[str, Any]:
    annotations = _annotations(function)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self" or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        annotation = annotations.get(parameter.name)
        if is_model(annotation):
            shape = _refer(annotation, defs)
        else:
            shape = {"title": parameter.name.replace("_", " ").title(), **_type_of(annotation)}
        default = parameter.default
        if default is parameter.empty:
            required.append(parameter.name)
        elif hasattr(default, "metadata") and hasattr(default, "is_required"):  # pydantic's Field
            shape.update(_field(default))
            if default.is_required():
                required.append(parameter.name)
        else:
            shape["default"] = default
        properties[parameter.name] = shape
    return {
        "properties": properties,
        "required": required,
        "title": f"{getattr(function, '__name__', 'tool')}Arguments",
        "type": "object",
    }


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError:  # names that only a type checker sees
        return dict(getattr(function, "__annotations__", {}))


def _refer(model: Any, defs: dict[str, Any]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    defs.update(schema.pop("$defs", {}))
    defs[model.__name__] = schema
    return {"$ref": f"#/$defs/{model.__name__}"}


def _type_of(annotation: Any) -> dict[str, Any]:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        if len(kinds) == 1 and len(typing.get_args(annotation)) == 2:
            return {**_type_of(kinds[0]), "nullable": True}
        return {"type": "string"}
    return {"type": _TYPES.get(origin or annotation, "string")}


def _field(field: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if field.description:
        shown["description"] = field.description
    if not field.is_required() and field.default_factory is None:
        shown["default"] = field.default
    for constraint in field.metadata:
        for theirs, ours in _BOUNDS.items():
            if getattr(constraint, theirs, None) is not None:
                shown[ours] = getattr(constraint, theirs)
    return shown
