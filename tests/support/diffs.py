"""The diffs of docs/contributing.md, each of which adds one thing."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def diff_of(what: str) -> str:
    """The one below the heading that begins with "A" and these words."""
    page = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## A {what}\n")[2].partition("\n## ")[0]
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return str(diff)


def files_of(diff: str) -> list[str]:
    """The files that a diff touches."""
    return re.findall(r"^\+\+\+ b/(.+)$", diff, re.MULTILINE)


def new_file(diff: str) -> str:
    """The content of the file that a diff adds."""
    (lines,) = re.findall(r"^--- /dev/null\n\+\+\+ .+\n@@ .+ @@\n((?:\+.*\n)+)", diff, re.MULTILINE)
    return re.sub(r"^\+", "", lines, flags=re.MULTILINE)
