"""Contact sheets: pictures of many results with a line or two of text below each."""

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LINE = 13
"""Pixels of a line of text."""


def tile(pictures: Float[Tensor, "V 3 H W"], lines: list[tuple[str, str]]) -> Image.Image:
    """Pictures in [0, 1] side by side, and below them lines of (text, colour), each cut to the width."""
    row = torch.cat(list(pictures), -1)
    shown = Image.fromarray((row.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
    image = Image.new("RGB", (shown.width, shown.height + LINE * len(lines) + 4), "white")
    image.paste(shown)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    for number, (text, colour) in enumerate(lines):
        while text and draw.textlength(text, font=font) > shown.width - 4:
            text = text[:-1]
        draw.text((2, shown.height + LINE * number), text, fill=colour, font=font)
    return image


def sheet(tiles: list[Image.Image], *, columns: int) -> Image.Image:
    """Tiles of one size in rows."""
    width, height = tiles[0].width + 4, tiles[0].height + 4
    rows = -(-len(tiles) // columns)
    image = Image.new("RGB", (width * min(columns, len(tiles)), height * rows), "white")
    for number, one in enumerate(tiles):
        image.paste(one, (width * (number % columns), height * (number // columns)))
    return image
