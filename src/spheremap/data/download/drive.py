"""Google Drive: the page that stands before a large file, and the address behind it.

Drive does not scan large files for viruses and answers with a page instead, whose form leads to the file: its
action with its hidden fields (id, export, confirm, uuid) as the query. This is how gdown (wkentaro/gdown,
`get_url_from_gdrive_confirmation`) reads it, too. Pages about quotas and permissions carry their reason in an
element of class uc-error-subcaption.
"""

from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

ADDRESS = "https://drive.google.com/uc?export=download&id={}"
_HOSTS = (".google.com", ".googleusercontent.com")
_REASONS = ("uc-error-subcaption", "uc-error-caption")  # the more exact one first


class DriveRefusal(Exception):
    """Drive does not hand out the file."""


def drive_url(file_id: str) -> str:
    """The address of a file of Google Drive."""
    return ADDRESS.format(file_id)


def confirmed_url(page: str, url: str) -> str:
    """The address that a confirmation page leads to.

    Args:
        page: HTML.
        url: the page's own address.

    Raises:
        DriveRefusal: if the page leads to no file, with the page's reason; or leads away from Google.
    """
    parser = _Page()
    parser.feed(page)
    parser.close()
    if parser.action is None:
        reasons = [" ".join(parser.texts[name].split()) for name in _REASONS if name in parser.texts]
        raise DriveRefusal(
            f"Google Drive says: {reasons[0]}"
            if reasons
            else "Google Drive sent a page without a download form: the file may not be shared any more"
        )
    target = urlsplit(urljoin(url, parser.action))
    own = urlsplit(url)
    google = target.scheme == "https" and (target.hostname or "").endswith(_HOSTS)
    if not google and (target.scheme, target.netloc) != (own.scheme, own.netloc):
        raise DriveRefusal(f"the page of Google Drive leads to {target.netloc}")
    query = dict(parse_qsl(target.query)) | parser.fields
    return urlunsplit(target._replace(query=urlencode(query), fragment=""))


class _Page(HTMLParser):
    """Collects the form with id download-form and the texts that explain a refusal."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self._in_form = False
        self._text = ""  # class of the element whose text is being read

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form" and found.get("id") == "download-form":
            self.action, self._in_form = found.get("action", ""), True
        elif tag == "input" and self._in_form and found.get("type") == "hidden":
            self.fields[found.get("name", "")] = found.get("value", "")
        elif tag == "p":
            self._text = found.get("class", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._in_form = False
        elif tag == "p":
            self._text = ""

    def handle_data(self, data: str) -> None:
        if self._text in _REASONS:
            self.texts[self._text] = self.texts.get(self._text, "") + data
