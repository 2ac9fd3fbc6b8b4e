# SPDX-License-Identifier: Apache-2.0
"""Section 2: LitAPI's constructor, attributes and defaults, without a server."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pytest
from parity_apis import Square
from pydantic import BaseModel

import cubbyhole as ls
from cubbyhole.specs.base import LitSpec


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_batch_size": 0}, "max_batch_size must be greater than 0"),
        ({"batch_timeout": -1}, "batch_timeout must be greater than or equal to 0"),
        ({"api_path": "predict"}, "api_path must start with '/'. Please provide a valid api path"),
        ({"loop": "fast"}, "loop must be an instance of _BaseLoop or 'auto'"),
    ],
)
def test_wrong_options_are_refused_with_litserves_texts(options: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Square(**options)
    assert text in str(caught.value)


def test_options_come_in_litserves_order() -> None:
    api = Square(2, 0.5, "/x", False, "auto", None, None, False)
    assert (api.max_batch_size, api.batch_timeout, api.api_path, api.stream) == (
        2,
        0.5,
        "/x",
        False,
    )
    assert api.enable_async is False
    assert api.mcp is None
    assert api.spec is None
    assert api.device is None
    assert api.request_timeout is None


def test_a_spec_overwrites_stream_and_path() -> None:
    api = Square(stream=False, spec=ls.OpenAISpec(), api_path="/mine")
    assert api.stream is True
    assert api.api_path == "/v1/chat/completions"


def test_batch_and_unbatch_without_a_batch_size_are_warned_of() -> None:
    class Both(Square):
        def batch(self, inputs: Any) -> Any:
            return inputs

        def unbatch(self, output: Any) -> Any:
            return output

    with pytest.warns(UserWarning, match="has both batch and unbatch methods implemented, but"):
        Both()


def test_a_slow_constructor_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: 2.0 * next(now))

    class Loads(ls.LitAPI):
        def __init__(self) -> None:
            super().__init__()

    with pytest.warns(RuntimeWarning, match=r"Loads.__init__ took \d\.\d\d seconds to execute"):
        Loads()


def test_a_constructor_that_forgets_super_still_serves() -> None:
    """Upstream fails with an AttributeError in LitServer; here the class has the defaults."""

    class Forgets(Square):
        def __init__(self) -> None:
            self.mine = 1

    assert ls.LitServer(Forgets()).settings.endpoints[0].path == "/predict"


def test_predict_must_be_implemented() -> None:
    with pytest.raises(NotImplementedError, match="predict is not implemented"):
        ls.LitAPI().predict(1)
    api = ls.LitAPI()
    assert api.decode_request({"a": 1}) == {"a": 1}
    assert api.encode_response(5) == 5
    assert api.health() is True
    for name in ("has_active_requests", "has_capacity"):
        with pytest.raises(NotImplementedError):
            getattr(api, name)()


def test_batch_stacks_arrays_and_keeps_lists() -> None:
    api = ls.LitAPI()
    assert api.batch([np.ones(2), np.zeros(2)]).shape == (2, 2)
    assert api.batch(["a", "b"]) == ["a", "b"]


def test_unbatch_is_known_after_pre_setup() -> None:
    api = ls.LitAPI()
    with pytest.raises(
        ValueError, match=r"Default implementation for `LitAPI\.unbatch` method was"
    ):
        api.unbatch([1])
    api.pre_setup()
    assert api.unbatch(np.array([1, 2])) == [1, 2]
    streaming = ls.LitAPI(stream=True)
    streaming.pre_setup()
    assert list(streaming.unbatch([(1, 2), (3, 4)])) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("output", "words"), [("ab", "a string"), ({"a": 1}, "a dict"), ({1}, "a set")]
)
def test_an_output_that_is_no_list_is_warned_of(output: Any, words: str) -> None:
    api = ls.LitAPI()
    api.pre_setup()
    text = f"The 'predict' method returned {words} instead of a list of predictions."
    with pytest.warns(UserWarning, match=text):
        assert api.unbatch(output) == list(output)


def test_pre_setup_tells_the_spec_its_batch_size() -> None:
    class Seen(LitSpec):
        def pre_setup(self, lit_api: Any) -> None:
            self.seen = lit_api

    spec = Seen()
    api = Square(max_batch_size=3)
    api.pre_setup(spec)
    assert api.spec is spec
    assert spec.seen is api
    assert spec._max_batch_size == 3


def test_chunks_are_formatted_as_lines() -> None:
    class Part(BaseModel):
        x: int

    api = ls.LitAPI()
    assert api.format_encoded_response({"k": 1}) == '{"k": 1}\n'
    assert api.format_encoded_response(Part(x=1)) == '{"x":1}\n'
    assert api.format_encoded_response("text") == "text"
    assert api.format_encoded_response(b"bytes") == b"bytes"


def test_an_ordinary_api_is_made_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ls.LitServer(Square())
