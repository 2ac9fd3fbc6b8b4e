# SPDX-License-Identifier: Apache-2.0
"""The model itself; skipped where the extra `demo` is not installed."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageDraw, ImageFont

from cubbyhole.core.errors import HTTPError
from cubbyhole.demo.reader import TextReader
from cubbyhole.demo.samples import SAMPLES, Sample, judge

pytest.importorskip("rapidocr", reason="needs the extra: pip install '.[demo]'")
pytest.importorskip("onnxruntime", reason="needs the extra: pip install '.[demo]'")

pytestmark = pytest.mark.timeout(60)  # a model, perhaps on a busy machine


@pytest.fixture(scope="module")
def reader() -> TextReader:
    reader = TextReader()
    reader.setup("cpu")
    return reader


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_samples_are_read_rightly_and_in_order(reader: TextReader, sample: Sample) -> None:
    image = reader.decode_request(memoryview(sample.image()))
    answer = reader.encode_response(reader.predict(image))
    assert judge(sample, answer["text"]).right


def test_every_word_says_where_it_stands_in_the_image(reader: TextReader) -> None:
    sample = SAMPLES[1]
    answer = reader.predict(reader.decode_request(memoryview(sample.image())))
    width, height = answer["size"]
    for row in answer["rows"]:
        for word in row:
            assert len(word["corners"]) == 4
            assert all(0 <= x <= width and 0 <= y <= height for x, y in word["corners"])


def drawn(size: tuple[int, int], text: str, mode: str = "RGB") -> bytes:
    paper = (250, 250, 250) if mode == "RGB" else (0, 0, 0, 0)
    image = Image.new(mode, size, paper)
    ink = (0, 0, 0) if mode == "RGB" else (0, 0, 0, 255)
    ImageDraw.Draw(image).text((10, 4), text, fill=ink, font=ImageFont.load_default(40))
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def test_dark_text_on_a_transparent_ground_is_read(reader: TextReader) -> None:
    image = reader.decode_request(memoryview(drawn((420, 60), "Seen through", "RGBA")))
    text = reader.encode_response(reader.predict(image))["text"]
    assert "".join(text.split()) == "Seenthrough"


@pytest.mark.parametrize("size", [(3000, 20), (20, 3000), (1, 1)])
def test_a_very_slim_image_is_no_error(reader: TextReader, size: tuple[int, int]) -> None:
    image = reader.decode_request(memoryview(drawn(size, "")))
    assert reader.predict(image)["size"] == size


@pytest.mark.parametrize(
    "body", [b"", b"hello", SAMPLES[2].image()[:3000]], ids=["empty", "text", "cut off"]
)
def test_what_is_no_image_is_refused_as_415(reader: TextReader, body: bytes) -> None:
    with pytest.raises(HTTPError) as refusal:
        reader.decode_request(memoryview(body))
    assert refusal.value.status_code == 415
