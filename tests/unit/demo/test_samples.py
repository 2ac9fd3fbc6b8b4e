# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from cubbyhole.demo.samples import SAMPLES, Sample, judge

MAGIC = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG"}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_images_are_in_the_package_and_small(sample: Sample) -> None:
    image = sample.image()
    assert image.startswith(MAGIC[sample.content_type])
    assert len(image) < 100_000


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_right_text_is_right_however_it_is_spaced(sample: Sample) -> None:
    assert judge(sample, sample.text.replace(" ", "  ").replace("\n", " ")).right


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_wrong_key_is_wrong_however_good_the_rest_is(sample: Sample) -> None:
    read = sample.text.replace(sample.key, sample.key[:-1] + "#")
    verdict = judge(sample, read)
    assert verdict.score > 0.9
    assert not verdict.right


def test_text_in_the_wrong_order_is_wrong() -> None:
    sample = SAMPLES[2]
    lines = sample.text.splitlines()
    assert not judge(sample, "\n".join([*lines[::2], *lines[1::2]])).right
