"""Writes a small Freiburg Static Cars 52: the files, names and lines of the archive."""

from pathlib import Path

from drawing import draw_object


def write_freiburg_cars(
    root: Path, *, cars: tuple[int, ...] = (1, 2, 6), views: int = 8, size: tuple[int, int] = (96, 54)
) -> None:
    """Write cars that turn once round; the annotated azimuth of the frontal view is 90.

    Args:
        root: gets what the archive holds: annotations and one folder per car. Car 6 has no annotations, and
            the last frame of car 2 has none either.
        cars: their numbers.
        views: frames per car.
    """
    (root / "annotations").mkdir(parents=True)
    for car in cars:
        lines = []
        for view in range(views):
            name = f"car{car:03d}/{view + 1:04d}"
            _, (x1, y1, x2, y2), _ = draw_object(root / f"{name}.png", 1000 * car + view, size)
            azimuth = round(90 + 360 * view / views) % 360 or 360  # as wrapTo360 writes 0
            lines.append(f"{name}.jpg\t{x1 + 1} {y1 + 1} {x2} {y2}\t{azimuth}\n")
        if car == 2:
            lines.pop()
        if car != 6:
            (root / "annotations" / f"{car}_annot.txt").write_text("".join(lines))
