"""Write the tables of docs/leaderboard.md and of what methods gain, from BENCHMARK.csv (`make docs`)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from benchmark_table import REPORTED, RUN_HERE, read_table

DOCS = Path(__file__).parents[1] / "docs"
WRITTEN = "<!-- {} of {}, written by "  # a mark; the rest of it is for people
SCORES = {  # column of the page: average and group of a line
    "per image": ("image", "all"),
    "per point": ("point", "all"),
    "per category": ("category", "all"),
    "geometry-aware, per image": ("image", "geometry-aware"),
    "geometry-aware, per point": ("point", "geometry-aware"),
}
ENOUGH = 3  # training seeds; a line of fewer is preliminary
ENTRY = ["method", "supervision", "backbone", "trained_on", "source"]  # a line of the page


def write_pages() -> None:
    """Put the tables of the present BENCHMARK.csv into the pages."""
    table = read_table()
    for name, text in (("leaderboard", leaderboard(table)), ("gains", gains(table))):
        page = DOCS / {"leaderboard": "leaderboard.md", "gains": "methods.md"}[name]
        page.write_text(between(page.read_text(), name, text))


def between(page: str, name: str, text: str) -> str:
    """A page with another text between the two marks of this name."""
    lines = page.splitlines()
    start, end = (
        next(at for at, line in enumerate(lines) if line.startswith(WRITTEN.format(which, name)))
        for which in ("start", "end")
    )
    return "\n".join([*lines[: start + 1], text, *lines[end:]]) + "\n"


def leaderboard(table: pd.DataFrame) -> str:
    """A section for each data set, its best score first; what nobody reports or ran is a dash."""
    parts = []
    for data_set, own in table.groupby("data_set", sort=False):
        lines = []
        for _, entry in own.groupby(ENTRY, sort=False):
            found = {
                column: entry[(entry["average"] == average) & (entry["group"] == group)]
                for column, (average, group) in SCORES.items()
            }
            value = next(float(rows["value"].iloc[0]) for rows in found.values() if len(rows))
            method, *about = (str(entry.iloc[0][name]) or "–" for name in ENTRY[:-1])
            scores = (_score(rows) for rows in found.values())
            lines.append((value, [method, *scores, *about, _origin(entry)]))
        lines.sort(key=lambda line: -line[0])
        head = ["method", *SCORES, "supervision", "backbone", "trained on", "from"]
        parts.append(f"### {data_set}{_size(own)}\n\n{_table(head, (cells for _, cells in lines))}")
    return "\n\n".join(parts)


def gains(table: pd.DataFrame) -> str:
    """Methods by data sets that were run here: the gain in PCK per point over the baseline."""
    own = table[(table["source"] == RUN_HERE) & (table["average"] == "point") & (table["group"] == "all")]
    names = list(own["data_set"].unique())
    lines = []
    for method in own["method"].unique():
        cells = [f"`{method}`"]
        for name in names:
            found = own[(own["method"] == method) & (own["data_set"] == name)]
            cells.append(_gain(found.iloc[0]) if len(found) else "–")
        lines.append(cells)
    return _table(["method", *(f"`{name}`{_seeds(own, name)}" for name in names)], lines)


def _score(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "–"
    row = rows.iloc[0]
    interval = f" [{row['low']:.1f}, {row['high']:.1f}]" if pd.notna(row["low"]) else ""
    return f"{row['value']:.1f}{interval}"


def _gain(row: pd.Series) -> str:
    if pd.isna(row["gain"]):
        return f"{row['value']:.1f}"
    return f"{row['gain']:+.1f} [{row['gain_low']:.1f}, {row['gain_high']:.1f}]"


def _origin(rows: pd.DataFrame) -> str:
    """Where the scores of an entry are from."""
    places = []
    for row in rows.drop_duplicates(["by", "place"]).to_dict("records"):
        if row["source"] == REPORTED:
            places.append(f"[{row['by']}]({row['url']})" + (f", {row['place']}" if row["place"] else ""))
        else:
            few = "" if len(row["seeds"].split()) >= ENOUGH else ", preliminary"
            places.append(f"{row['implementation']} code at {row['commit']}, seeds {row['seeds']}{few}")
    return f"{rows['source'].iloc[0]}: {'; '.join(places)}"


def _size(own: pd.DataFrame) -> str:
    counted = own.dropna(subset="n_points")
    counted = counted[counted["group"] == "all"]
    if counted.empty:
        return ""
    first = counted.iloc[0]
    return f" ({int(first['n_pairs']):,} pairs, {int(first['n_points']):,} points)"


def _seeds(own: pd.DataFrame, name: str) -> str:
    n = len(own.loc[own["data_set"] == name, "seeds"].iloc[0].split())
    return f", {n} seeds" if n > 1 else ", 1 seed"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


if __name__ == "__main__":
    write_pages()
