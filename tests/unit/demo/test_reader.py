# SPDX-License-Identifier: Apache-2.0
"""The model itself; skipped where the extra `demo` is not installed."""

from __future__ import annotations

import pytest

from cubbyhole.core.errors import HTTPError
from cubbyhole.demo.reader import TextReader
from cubbyhole.demo.samples import SAMPLES, Sample, judge

pytest.importorskip("rapidocr", reason="needs the extra: pip install '.[demo]'")
pytest.importorskip("onnxruntime", reason="needs the extra: pip install '.[demo]'")


@pytest.fixture(scope="module")
def reader() -> TextReader:
    reader = TextReader()
    reader.setup("cpu")
    return reader


@pytest.mark.timeout(60)
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


@pytest.mark.parametrize(
    "body", [b"", b"hello", SAMPLES[2].image()[:3000]], ids=["empty", "text", "cut off"]
)
def test_what_is_no_image_is_refused_as_415(reader: TextReader, body: bytes) -> None:
    with pytest.raises(HTTPError) as refusal:
        reader.decode_request(memoryview(body))
    assert refusal.value.status_code == 415
