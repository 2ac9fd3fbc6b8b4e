# SPDX-License-Identifier: Apache-2.0
"""Draw the images of assets/ anew: `python -m cubbyhole.demo.draw [FOLDER]`.

Not part of a run: the images are shipped. Needs Pillow and the DejaVu fonts (Debian: fonts-dejavu).
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from cubbyhole.demo.samples import COLUMNS, RECEIPT, SIGN

FONTS = Path("/usr/share/fonts/truetype/dejavu")


def font(name: str, size_px: int) -> ImageFont.FreeTypeFont:
    """Load one of the DejaVu fonts."""
    return ImageFont.truetype(FONTS / f"{name}.ttf", size_px)


def speckled(image: Image.Image, seed: int, strength: int = 9) -> Image.Image:
    """Add a camera's grain, the same at each run."""
    grain = Image.frombytes(
        "L",
        image.size,
        random.Random(seed).randbytes(image.width * image.height),  # noqa: S311
    )
    grain = grain.filter(ImageFilter.GaussianBlur(0.6)).point(lambda v: v * strength // 255)
    return Image.composite(
        image, Image.new("RGB", image.size, "black"), grain.point(lambda v: 255 - v)
    )


def receipt() -> Image.Image:
    """A till receipt, a little askew on a wooden table."""
    paper = Image.new("RGB", (440, 560), (250, 248, 240))
    pen = ImageDraw.Draw(paper)
    lines = RECEIPT.text.splitlines()
    pen.text(
        (220, 44), lines[0], font=font("DejaVuSansMono-Bold", 34), fill=(30, 30, 34), anchor="mm"
    )
    for number, line in enumerate(lines[1:3]):
        pen.text(
            (220, 86 + number * 28),
            line,
            font=font("DejaVuSansMono", 20),
            fill=(50, 50, 54),
            anchor="mm",
        )
    top = 158
    for line in lines[3:9]:
        bold = line.startswith("TOTAL")
        if bold:
            pen.line((28, top, 412, top), fill=(90, 90, 94), width=2)
            top += 22
        face = font("DejaVuSansMono-Bold" if bold else "DejaVuSansMono", 26 if bold else 22)
        what, price = line.rsplit(" ", 1)
        pen.text((28, top), what, font=face, fill=(24, 24, 28))
        pen.text((412, top), price, font=face, fill=(24, 24, 28), anchor="ra")
        top += 50 if bold else 40
    pen.text((220, 518), lines[9], font=font("DejaVuSansMono", 20), fill=(50, 50, 54), anchor="mm")
    table = Image.new("RGB", (560, 660), (120, 84, 58))
    grain = ImageDraw.Draw(table)
    shades = random.Random(3)  # noqa: S311
    for y in range(0, 660, 3):
        tone = shades.randint(-9, 9)
        grain.line((0, y, 560, y + 2), fill=(120 + tone, 84 + tone, 58 + tone), width=3)
    shadow = Image.new("L", paper.size, 130).rotate(1.8, expand=True)
    table.paste((40, 28, 20), (66, 54), shadow)
    turned = paper.convert("RGBA").rotate(1.8, expand=True, resample=Image.Resampling.BICUBIC)
    table.paste(turned, (56, 42), turned)
    return speckled(table, 1)


def sign() -> Image.Image:
    """A road sign under the sky, seen a little from the side."""
    board = Image.new("RGBA", (760, 380), (0, 0, 0, 0))
    pen = ImageDraw.Draw(board)
    pen.rounded_rectangle((4, 4, 755, 375), radius=26, fill=(20, 84, 160, 255))
    pen.rounded_rectangle((16, 16, 743, 363), radius=18, outline="white", width=6)
    face = font("DejaVuSans-Bold", 54)
    for number, line in enumerate(SIGN.text.splitlines()):
        place, far, unit = line.rsplit(" ", 2)
        pen.text((56, 56 + number * 98), place, font=face, fill="white")
        pen.text((704, 56 + number * 98), f"{far} {unit}", font=face, fill="white", anchor="ra")
    board = board.transform(
        (800, 420),
        Image.Transform.QUAD,
        (-6, -26, -30, 420, 792, 398, 776, -6),
        resample=Image.Resampling.BICUBIC,
    )
    scene = Image.new("RGB", (900, 560))
    ground = ImageDraw.Draw(scene)
    for y in range(560):
        ground.line((0, y, 900, y), fill=(150 + y // 8, 190 + y // 14, 226))
    ground.polygon([(0, 560), (0, 470), (330, 430), (900, 480), (900, 560)], fill=(96, 132, 80))
    for x in (240, 640):
        ground.rectangle((x, 380, x + 22, 560), fill=(128, 132, 138))
    scene.paste(board, (56, 44), board)
    return speckled(scene, 2)


def columns() -> Image.Image:
    """A page with a heading and two columns."""
    page = Image.new("L", (1000, 640), 252)
    pen = ImageDraw.Draw(page)
    heading, *lines = COLUMNS.text.splitlines()
    pen.text((500, 66), heading, font=font("DejaVuSerif-Bold", 44), fill=20, anchor="mm")
    pen.line((60, 112, 940, 112), fill=120, width=2)
    face = font("DejaVuSerif", 27)
    middle = lines.index("A server can do the same with")
    for left, part in ((60, lines[:middle]), (530, lines[middle:])):
        for number, line in enumerate(part):
            pen.text((left, 140 + number * 46), line, font=face, fill=20)
    return page.quantize(16)


def main(folder: Path) -> None:
    """Write the three images."""
    receipt().save(folder / RECEIPT.file, quality=82, optimize=True)
    sign().save(folder / SIGN.file, quality=82, optimize=True)
    columns().save(folder / COLUMNS.file, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "assets")
