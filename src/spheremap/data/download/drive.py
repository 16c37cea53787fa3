"""Google Drive: the page that stands before a large file, and the address behind it.

Drive does not scan large files for viruses and answers with a page instead, whose form leads to the file: its
action with its hidden fields as the query. gdown (wkentaro/gdown) reads it the same way.
"""

import re
from html import unescape
from urllib.parse import urlencode, urljoin

ADDRESS = "https://drive.google.com/uc?export=download&id={}"
_FORM = re.compile(r'<form\b[^>]*\bid="download-form"[^>]*\baction="([^"?]*)')
_FIELD = re.compile(r'<input\b[^>]*\btype="hidden"[^>]*\bname="([^"]*)"[^>]*\bvalue="([^"]*)"')
_REASON = re.compile(r'class="uc-error-subcaption">([^<]*)')


class DriveRefusal(Exception):
    """Drive does not hand out the file."""


def confirmed_url(page: str, url: str) -> str:
    """The address that a confirmation page (HTML) leads to; `url` is the page's own.

    Raises:
        DriveRefusal: if the page leads to no file, with the page's reason.
    """
    form = _FORM.search(page)
    if form is None:
        reason = _REASON.search(page)
        said = " ".join(unescape(reason[1]).split()) if reason else "nothing; is the file still shared?"
        raise DriveRefusal(f"Google Drive sent a page without a download form, which says: {said}")
    fields = [(unescape(name), unescape(value)) for name, value in _FIELD.findall(page)]
    return f"{urljoin(url, unescape(form[1]))}?{urlencode(fields)}"
