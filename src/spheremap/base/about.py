"""What spheremap says of itself: version, licence, and the paper whose method it implements."""

LICENCE = "MIT; an independent implementation from the paper, without code or weights of its authors"
PAPER = (
    "O. Mariotti, O. Mac Aodha, H. Bilen: Improving Semantic Correspondence with Viewpoint-Guided Spherical "
    "Maps. CVPR 2024, arXiv 2312.13216."
)
HOMEPAGE = "https://arxiv.org/abs/2312.13216"


def own_version() -> str:
    """The version of the installed package; "unknown" where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # takes longer than all of `--help`

    try:
        return version("spheremap")
    except PackageNotFoundError:  # the source alone is on the path
        return "unknown"
