"""What MkDocs does besides: the README is the home page; links that leave docs/ lead to the repository."""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")  # of [text](link#anchor), the file


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The home page is the repository's README; that of docs/, the list of all pages, moves aside."""
    listing = files.get_file_from_path("README.md")
    assert listing is not None
    listing.dest_uri = "pages/index.html"
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site, or at the repository for what is not one."""
    if page.file.src_uri == "reference/python.md":  # mkdocstrings links names with each other
        markdown = re.sub(r"^## (spheremap\.\w+)$.*?(?=^## )", r"## ::: \1\n\n", markdown, flags=re.M | re.S)
    pages = {file.abs_src_path: file.src_uri for file in files}
    here = Path(page.file.abs_src_path or "").parent

    def lead(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(here / match[1]))
        if str(target) in pages:
            return os.path.relpath(pages[str(target)], Path(page.file.src_uri).parent)
        if target.exists():
            return f"{config.repo_url}/blob/main/{target.relative_to(ROOT)}"
        return match[1]

    return LINK.sub(lead, markdown)
