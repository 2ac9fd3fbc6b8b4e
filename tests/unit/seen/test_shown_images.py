# SPDX-License-Identifier: Apache-2.0
"""Images are known by their bytes, and measured without being decoded."""

from __future__ import annotations

import io
import struct

import pytest

from cubbyhole.seen.images import image_type, is_showable

PNG_HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


def drawn(kind: str, width: int, height: int) -> bytes:
    image = pytest.importorskip("PIL.Image", reason="needs: pip install pillow")
    file = io.BytesIO()
    image.new("RGB", (width, height)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_real_images_are_shown_under_their_own_type(kind: str) -> None:
    data = drawn(kind, 33, 17)
    assert image_type(data) == f"image/{kind}"
    assert is_showable(data)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_an_image_that_claims_too_many_pixels_is_not_shown(kind: str) -> None:
    small, width, height = drawn(kind, 33, 17), 60_000, 60_000
    where, layout = {
        "png": (16, ">II"),
        "gif": (6, "<HH"),
        "jpeg": (small.find(struct.pack(">HH", 17, 33)), ">HH"),
        "webp": (26, "<HH"),
    }[kind]
    if kind == "webp":
        width = height = 16_383  # as large as its header can say
    bomb = bytearray(small)
    struct.pack_into(layout, bomb, where, width, height)
    assert image_type(bytes(bomb)) == f"image/{kind}"
    assert not is_showable(bytes(bomb))


@pytest.mark.parametrize("size", range(0, 40, 3))
def test_the_beginning_of_an_image_is_no_error(size: int) -> None:
    for kind in ("png", "jpeg", "gif", "webp"):
        is_showable(drawn(kind, 33, 17)[:size])
    assert not is_showable((PNG_HEAD + struct.pack(">II", 0, 5))[: 16 + size % 9])


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<!doctype html>",
        b"RIFF\x00\x00\x00\x00WAVE",
        b"",
        b"\xff\xd8\xff" + b"\xff" * 50,
        b"\xff\xd8\xff\xe0\x00\x00" * 9,
    ],
)
def test_what_is_no_image_is_not_shown_as_one(data: bytes) -> None:
    assert not is_showable(data)
