# SPDX-License-Identifier: Apache-2.0
"""Which format a header asks for."""

from __future__ import annotations

import pytest

from cubbyhole.formats.media import BODY_FORMATS, check_formats, choose_format, format_of

ALLOWED = ("json", "npy", "msgpack")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/x-npy", "npy"),
        ("application/x-msgpack", "msgpack"),
        ("Application/X-NPY ; q=0.5, */*;q=0.1", "npy"),
        ("application/json;q=0.2, application/msgpack;q=0.9", "msgpack"),
        ("application/*", "json"),
        ("application/json;q=0, */*", "npy"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "json"),
        ("text/html", None),
        ("application/x-safetensors", None),
        ("application/x-npy;q=nonsense", None),
        (",,;;=,", None),
    ],
)
def test_the_best_liked_of_the_allowed_is_chosen(accept: str, chosen: str | None) -> None:
    assert choose_format(accept, ALLOWED) == chosen


def test_a_content_type_may_have_parameters_and_any_case() -> None:
    assert format_of("Application/JSON; charset=utf-8") == "json"
    assert format_of("multipart/form-data; boundary=x") == "form"
    assert format_of("application/vnd.bentoml+pickle") is None
    assert format_of("") == "json"


def test_an_unknown_format_is_refused_where_it_is_declared() -> None:
    assert check_formats("body_formats", ["npy"], BODY_FORMATS) == ("npy",)
    for wrong in (("pickle",), (), "npy"):
        with pytest.raises(ValueError, match="one or more of: arrow, form, image, json"):
            check_formats("body_formats", wrong, BODY_FORMATS)
