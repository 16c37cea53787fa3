"""Photograph a report for the pages: `python docs/screenshots.py REPORT FOLDER` (`make docs`)."""

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SECTIONS = {"scores": 640, "explorer": 590}  # ids in the page, and px of their upper part that is shown
WIDTH, MARGIN = 1100, 16  # px, of the window and about a section


def photograph(report: Path, out: Path, chromium: str) -> None:
    """Write `out`/SECTION.webp for each section of the page."""
    out.mkdir(parents=True, exist_ok=True)
    # Chromium refuses to sandbox itself for the superuser, as whom containers often run
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        page.goto(report.resolve().as_uri())
        page.locator("#explorer-app").wait_for()
        for name, height in SECTIONS.items():
            box = page.locator(f"#{name}").bounding_box()
            assert box is not None
            left, top, width = box["x"] - MARGIN, box["y"] + 2, box["width"] + 2 * MARGIN
            clip = {"x": left, "y": top, "width": width, "height": height}
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))
            picture.save(out / f"{name}.webp", quality=80, method=6)
        browser.close()


if __name__ == "__main__":
    report, out = map(Path, sys.argv[1:])
    if found := shutil.which("chromium") or shutil.which("google-chrome"):
        photograph(report, out, found)
    else:
        print("no Chromium here: the pictures of the report stay as they are", file=sys.stderr)
