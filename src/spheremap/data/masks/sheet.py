"""The contact sheet: masks to look at, one band per category, the most doubtful first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spheremap.data.images import load_rgb
from spheremap.data.masks.store import Outcome
from spheremap.data.subjects import Subject

COLUMNS, ROWS = 12, 2  # pictures per category
TILE, GAP, LINE = 128, 4, 20  # pixels: side of a picture, between pictures, height of a line of text
DIMMED = 0.35  # brightness of what is not the object
JPEG_QUALITY = 88
LARGEST = 65_500  # pixels: a JPEG has no longer side
COLOURS = {"maskrcnn": (0, 158, 115), "own": (86, 180, 233), "box": (213, 94, 0)}  # Okabe-Ito
NAMES = {"maskrcnn": "Mask R-CNN", "own": "own mask", "box": "whole box"}
_PAPER, _INK = (255, 255, 255), (30, 30, 30)


@dataclass(frozen=True)
class Entry:
    """An image with the mask it got."""

    subject: Subject
    outcome: Outcome


def draw_sheet(entries: Sequence[Entry], path: Path) -> None:
    """Write the sheet as a JPEG.

    Of each category COLUMNS × ROWS images are drawn, in even steps from the one whose mask agrees least with
    its box to the one that agrees most. What is not the object is dimmed, the box is a thin line, the colour
    of the frame says where the mask comes from. Of more categories than a JPEG can hold, those are left out
    whose masks agree best.
    """
    bands = {}
    for category in sorted({entry.subject.category for entry in entries}):
        own = [entry for entry in entries if entry.subject.category == category]
        bands[category] = (own, choose_entries(own, COLUMNS * ROWS))
    fitting = (LARGEST - LINE - GAP) // (LINE + ROWS * (TILE + GAP))
    doubtful = sorted(bands, key=lambda name: bands[name][1][0].outcome.agreement)
    bands = {name: bands[name] for name in sorted(doubtful[:fitting])}
    width = COLUMNS * (TILE + GAP) + GAP
    heights = {name: LINE + -(-len(chosen) // COLUMNS) * (TILE + GAP) for name, (_, chosen) in bands.items()}
    sheet = Image.new("RGB", (width, LINE + sum(heights.values()) + GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    x = GAP
    for used, colour in COLOURS.items():
        draw.rectangle((x, GAP, x + 11, GAP + 11), fill=colour)
        draw.text((x + 16, GAP - 1), NAMES[used], fill=_INK, font=_font())
        x += 160
    if hidden := doubtful[fitting:]:
        text = f"{len(hidden)} categories whose masks agree best with their boxes are not shown"
        draw.text((x, GAP - 1), text, fill=_INK, font=_font())
    y = LINE
    for category, (own, chosen) in bands.items():
        draw.text((GAP, y + GAP - 1), _title(category, own, chosen), fill=_INK, font=_font())
        for i, entry in enumerate(chosen):
            row, column = divmod(i, COLUMNS)
            place = (GAP + column * (TILE + GAP), y + LINE + row * (TILE + GAP))
            sheet.paste(_tile(entry), place)
        y += heights[category]
    sheet.save(path, quality=JPEG_QUALITY, subsampling=0)  # frames and lines keep their colours


def choose_entries(entries: Sequence[Entry], count: int) -> list[Entry]:
    """At most `count` entries, in even steps from the least agreement with the box to the most."""
    ranked = sorted(entries, key=lambda entry: (entry.outcome.agreement, entry.subject.image_id))
    if len(ranked) <= count:
        return ranked
    return [ranked[round(i)] for i in np.linspace(0, len(ranked) - 1, count)]


def count_used(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    """How many images got which mask, in the order of `NAMES`; what none got is left out."""
    counts = {used: sum(outcome.used == used for outcome in outcomes) for used in NAMES}
    return {used: count for used, count in counts.items() if count}


def _title(category: str, own: Sequence[Entry], chosen: Sequence[Entry]) -> str:
    used = count_used([entry.outcome for entry in own])
    counts = ", ".join(f"{NAMES[name]} {n}" for name, n in used.items())
    shown = f"; {len(chosen)} shown" if len(chosen) < len(own) else ""
    return f"{category}: {counts}{shown}"


def _tile(entry: Entry) -> Image.Image:
    picture = load_rgb(entry.subject.path)
    height, width = picture.shape[:2]
    scale = (TILE - 6) / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    light = np.where(entry.subject.mask(), 255, round(255 * DIMMED)).astype(np.uint8)
    small = Image.fromarray(picture).resize(size, Image.Resampling.BOX)
    black = Image.new("RGB", size)
    seen = Image.composite(small, black, Image.fromarray(light).resize(size, Image.Resampling.BOX))
    edges = zip(entry.subject.box, size * 2, strict=True)
    x1, y1, x2, y2 = (min(round(v * scale), limit - 1) for v, limit in edges)
    ImageDraw.Draw(seen).rectangle((x1, y1, x2, y2), outline=(255, 255, 255))
    tile = Image.new("RGB", (TILE, TILE), (235, 235, 235))
    ImageDraw.Draw(tile).rectangle((0, 0, TILE - 1, TILE - 1), outline=COLOURS[entry.outcome.used], width=3)
    tile.paste(seen, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)
