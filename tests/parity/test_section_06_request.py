# SPDX-License-Identifier: Apache-2.0
"""Section 6: what decode_request receives, by its annotation and the content type."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import Anything, Form, OtherName, Typed, UrlForm

import cubbyhole as ls

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]


def anything() -> ls.LitServer:
    return ls.LitServer(Anything())


def form() -> ls.LitServer:
    return ls.LitServer([Form(api_path="/files"), UrlForm(api_path="/fields")])


def typed() -> ls.LitServer:
    return ls.LitServer([Typed(), OtherName(api_path="/other")])


@pytest.mark.parametrize(
    "value", [{"a": [1, 2.5, None]}, [1, 2], "text", 1, 2.5, True, None, "Zoë \U0001f600"]
)
def test_any_json_value_is_a_request(serve: Serve, value: Any) -> None:
    answer = requests.post(f"{serve(anything).url}/predict", data=json.dumps(value), timeout=10)
    assert answer.json() == value


def test_a_multipart_form_is_a_mapping_with_files(serve: Serve) -> None:
    answer = requests.post(
        f"{serve(form).url}/files",
        data={"name": "a"},
        files={"file": ("big.bin", b"x" * 3_000_000)},
        timeout=10,
    )
    assert answer.json() == {"name": "a", "size": 3_000_000, "filename": "big.bin"}


def test_a_url_encoded_form_is_a_mapping(serve: Serve) -> None:
    answer = requests.post(f"{serve(form).url}/fields", data={"a": "1", "b": "ü"}, timeout=10)
    assert answer.json() == {"a": "1", "b": "ü"}


def test_a_pydantic_model_is_validated_and_passed_on(serve: Serve) -> None:
    answer = requests.post(
        f"{serve(typed).url}/predict", json={"name": "a", "price": "2.5"}, timeout=10
    )
    assert answer.json() == {"name": "a", "total": 5.0}


def test_models_are_in_the_openapi_document(serve: Serve) -> None:
    document = requests.get(f"{serve(typed).url}/openapi.json", timeout=10).json()
    operation = document["paths"]["/predict"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/Item"}
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Total"}
    assert {"Item", "Total"} <= set(document["components"]["schemas"])


def test_the_parameter_may_have_any_name(serve: Serve) -> None:
    """Defect 41: any name but `request` was a KeyError."""
    assert requests.post(f"{serve(typed).url}/other", json={"input": 1}, timeout=10).json() == 2
