# SPDX-License-Identifier: Apache-2.0
"""Three images whose text is known, so that the demo can say whether it was read rightly.

Owns:  nothing; the images lie in assets/, drawn by draw.py from the texts below.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from importlib.resources import files

import msgspec

ENOUGH = 0.97  # letters right; the model gives 1.0 on x86-64, other processors round differently


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One image of assets/ and its text.

    Attributes:
        name: For people and in paths.
        file: Name in assets/.
        content_type: As it is sent.
        text: What stands in it, in reading order, one line for each line of the image.
        key: The part that must be read without any error.
    """

    name: str
    file: str
    content_type: str
    text: str
    key: str

    def image(self) -> bytes:
        """Return the encoded image."""
        return (files("cubbyhole.demo") / "assets" / self.file).read_bytes()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How well a sample was read: `score` is the share of letters in place, 0 to 1."""

    score: float
    key_found: bool

    @property
    def right(self) -> bool:
        """Whether that is good enough."""
        return self.key_found and self.score >= ENOUGH


def judge(sample: Sample, read: str) -> Verdict:
    """Compare what was read with what stands there; white space does not count."""
    wanted, got = "".join(sample.text.split()), "".join(read.split())
    score = SequenceMatcher(None, wanted, got, autojunk=False).ratio()
    return Verdict(score=score, key_found="".join(sample.key.split()) in got)


RECEIPT = Sample(
    name="receipt",
    file="receipt.jpg",
    content_type="image/jpeg",
    key="TOTAL EUR 21.35",
    text="""\
CORNER BAKERY
14 Mill Lane, Oldtown
2026-03-14 08:41
2 x Croissant 5.80
1 x Rye bread 4.95
3 x Cappuccino 9.60
1 x Paper bag 1.00
TOTAL EUR 21.35
Card 21.35
Thank you and come again""",
)

SIGN = Sample(
    name="sign",
    file="sign.jpg",
    content_type="image/jpeg",
    key="Harbour 12 km",
    text="""\
Old Town 3 km
Harbour 12 km
Airport 27 km""",
)

COLUMNS = Sample(
    name="two columns",
    file="columns.png",
    content_type="image/png",
    key="Everybody may look.",
    text="""\
The Post Room
A hotel of the old kind has a
board of small open boxes
behind its desk. Each guest
has one. A letter is laid in
it by whoever is on duty, and
taken out by whoever has the
key. Nobody waits for anybody,
and one look tells who has
mail and how long it has been
lying there.
A server can do the same with
requests. One process puts the
question into a box, another
takes it out and lays the
answer back. The boxes stand
in memory that both can see,
so nothing is carried from
hand to hand.
Everybody may look.""",
)

SAMPLES = (RECEIPT, SIGN, COLUMNS)
