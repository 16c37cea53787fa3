"""Draw the pictures of concepts.md from rendered objects and made-up numbers (`make docs`)."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, FancyArrowPatch, Rectangle
from numpy.typing import NDArray
from PIL import Image

from spheremap.data.shapes.camera import Camera, framed, look_at_origin
from spheremap.data.shapes.models import make_instance
from spheremap.data.shapes.raster import rasterise
from spheremap.data.shapes.scene import Solid, render, solid
from spheremap.report.sphere_colours import colours, draw_legend

OUT = Path(__file__).parent / "figures"
SIDE = 240  # px of a rendered picture
RIGHT, WRONG, INK, FAINT, BLUE = "#009e73", "#d55e00", "#444444", "#b8b8b8", "#0072b2"  # after Okabe and Ito
STYLE: dict[str, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "spheremap",
}


def camera(subject: Solid, azimuth: float, elevation: float = 12) -> Camera:
    position, axes = look_at_origin(azimuth, elevation, 4.5)
    return framed(position, axes, subject.mesh.vertices, SIDE, 0.86, np.zeros(2))


def picture(subject: Solid, view: Camera, seed: int = 4) -> NDArray[np.uint8]:
    return render(subject, view, np.random.default_rng(seed)).rgb


def sphere_picture(subject: Solid, view: Camera, turned: bool = False) -> NDArray[np.uint8]:
    """The object coloured by the direction of each surface point from its middle, on white.

    If `turned`, all of them are turned by half a turn about their mean.
    """
    fine = view.resized(2 * SIDE)
    vertices = subject.mesh.vertices
    buffers = rasterise(fine, vertices, subject.mesh.faces)
    seen = subject.mesh.faces[buffers.face.ravel()[buffers.pixels]]  # (P, 3)
    places = np.einsum("pk,pkd->pd", buffers.weights, vertices[seen])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    places = (places - (low + high) / 2) / (high - low)  # as if the object were a cube
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    if turned:
        mean = places.mean(axis=0) / np.linalg.norm(places.mean(axis=0))
        places = 2 * np.outer(places @ mean, mean) - places
    canvas = np.full((4 * SIDE * SIDE, 3), 255, dtype=np.uint8)
    canvas[buffers.pixels] = 255 * colours(places)
    image = Image.fromarray(canvas.reshape(2 * SIDE, 2 * SIDE, 3))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def confusion(subject: Solid, points: dict[str, NDArray[np.float64]]) -> Figure:
    """The left side of a car, its right side, and which wheels look alike."""
    figure = Figure(figsize=(7.2, 3.5), layout="constrained")
    names = ("wheel_front_left", "wheel_front_right", "wheel_rear_right")
    views = camera(subject, 75), camera(subject, 285)
    places = [view.project(np.array([points[name] for name in names]))[0] for view in views]
    shown = figure.subplots(1, 2)
    for axes, view, title in zip(shown, views, ("source", "target, from the other side"), strict=True):
        axes.imshow(picture(subject, view))
        axes.set_title(title, fontsize=10)
        bare(axes)
    ring(shown[0], places[0][0], BLUE, "front wheel, left")
    ring(shown[1], places[1][1], BLUE, "front wheel")
    ring(shown[1], places[1][2], WRONG, "looks alike")
    figure.supxlabel("By look alone the two wheels of the target are equally good answers.", fontsize=9)
    return figure


def ring(axes: Axes, at: NDArray[np.float64], colour: str, text: str) -> None:
    axes.add_patch(Circle(tuple(at), 20, fill=False, edgecolor=colour, linewidth=2.5))
    axes.text(at[0], at[1] + 36, text, color="white", ha="center", fontsize=9, weight="bold",
              bbox={"facecolor": colour, "edgecolor": "none", "pad": 2})  # fmt: skip


def sphere(subject: Solid) -> Figure:
    """Four views, above as a camera sees them, below by position on the sphere; the sphere itself beside."""
    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    grid = figure.add_gridspec(2, 5, width_ratios=[1, 1, 1, 1, 1.15])
    for column, (azimuth, name) in enumerate(
        ((35, "front left"), (125, "rear left"), (235, "rear right"), (325, "front right"))
    ):
        view = camera(subject, azimuth, 18)
        for row, drawn in enumerate((picture(subject, view), sphere_picture(subject, view))):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(drawn)
            bare(axes)
            if row == 0:
                axes.set_title(name, fontsize=9)
    axes = figure.add_subplot(grid[:, 4])
    axes.imshow(draw_legend(SIDE))
    axes.set_title("the sphere", fontsize=9)
    bare(axes)
    return figure


def basins(subject: Solid, part: NDArray[np.float64]) -> Figure:
    """The right sphere, and the one that satisfies the paper's losses as well; with one part's colour."""
    figure = Figure(figsize=(8.2, 3.3), layout="constrained")
    names = ("right: the part keeps its colour", RIGHT), ("turned: colours slide over the part", WRONG)
    for row, (rows, (name, colour)) in enumerate(zip(figure.subplots(2, 5), names, strict=True)):
        for column, axes in enumerate(rows):
            view = camera(subject, 40 + 22 * column)
            drawn = sphere_picture(subject, view, turned=bool(row))
            (at,) = view.project(part[None])[0]
            axes.imshow(drawn[20:192], extent=(0, SIDE, 192, 20))
            patch = drawn[int(at[1]) - 5 : int(at[1]) + 6, int(at[0]) - 5 : int(at[0]) + 6].reshape(-1, 3)
            axes.add_patch(Circle((at[0], 40), 16, color=np.median(patch, axis=0) / 255))
            axes.plot([at[0], at[0]], [56, at[1]], color=INK, linewidth=0.8)
            bare(axes)
        rows[2].set_title(name, color=colour, fontsize=10)
    return figure


def losses() -> Figure:
    """One panel per loss."""
    figure = Figure(figsize=(8.6, 2.9), layout="constrained")
    panels = figure.subplots(1, 4)
    for axes, title in zip(
        panels, ("reconstruction", "relative distance", "orientation", "relative viewpoint"), strict=True
    ):
        axes.set_title(title, fontsize=10)
        axes.set(xlim=(-1.25, 1.25), ylim=(-1.5, 1.2), aspect="equal")
        bare(axes)
    first, second, third, fourth = panels

    ball(first, (0, -0.1), 0.55)
    first.add_patch(Rectangle((-1.2, 0.6), 0.5, 0.5, facecolor="#cfe3f1", edgecolor=BLUE))
    first.add_patch(Rectangle((0.7, 0.6), 0.5, 0.5, facecolor="#cfe3f1", edgecolor=BLUE, linestyle=":"))
    dot(first, (0.1, 0.15), BLUE)
    arrow(first, (-0.75, 0.75), (0.02, 0.2))
    arrow(first, (0.18, 0.2), (0.75, 0.7))
    first.text(0, -1.45, "token → sphere → token:\nthe same again", ha="center", fontsize=8)

    for axes in (second, third):
        ball(axes, (0, 0.1), 0.95)
    a, b, c = np.array([-0.35, 0.35]), np.array([0.05, 0.6]), np.array([0.45, -0.4])
    for at, name, colour in ((a, "a", INK), (b, "b", RIGHT), (c, "c", WRONG)):
        dot(second, at, colour, name)
    arrow(second, a, b, RIGHT, "-")
    arrow(second, a, c, WRONG, "-")
    second.text(
        0, -1.45, "b is nearer to a in the picture:\nit is nearer here, by a margin", ha="center", fontsize=8
    )

    turn = np.array([[-0.5, -0.25], [0.1, 0.65], [0.55, -0.3]])
    for at, name in zip(turn, "abc", strict=True):
        dot(third, at, INK, name)
    for k in range(3):
        arrow(third, turn[k], turn[(k + 1) % 3], BLUE)
    third.text(0, -1.45, "a, b, c turn the same way\nas in the picture", ha="center", fontsize=8)

    ball(fourth, (0, 0.1), 0.95)
    for angle, colour in ((20, BLUE), (110, RIGHT)):
        direction = 0.95 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        arrow(fourth, (0, 0.1), np.array([0, 0.1]) + direction, colour)
    fourth.text(0.12, 0.35, "90°", fontsize=9)
    fourth.text(0, -1.45, "pictures from 90° apart:\nmean directions 90° apart", ha="center", fontsize=8)
    return figure


def metrics() -> Figure:
    """PCK's circle, and KAP's positives and negatives."""
    figure = Figure(figsize=(8.2, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    left.set(xlim=(-0.5, 10.5), ylim=(-0.6, 6.9), aspect="equal", title="PCK@0.10")
    left.add_patch(Rectangle((0, 0), 10, 6, fill=False, edgecolor=FAINT, linestyle="--"))
    left.add_patch(Ellipse((5, 3), 9.6, 5.4, facecolor="#eeeeee", edgecolor="none"))
    left.add_patch(Circle((3.2, 2.6), 1, facecolor="#d6efe6", edgecolor=RIGHT, linewidth=1.5))
    left.plot(3.2, 2.6, "+", color=INK, markersize=9)
    left.plot(3.75, 3.1, "o", color=RIGHT)
    left.plot(7.4, 2.4, "o", color=WRONG)
    left.text(3.95, 3.2, "right", color=RIGHT, fontsize=9)
    left.text(7.6, 2.5, "wrong", color=WRONG, fontsize=9)
    left.text(5, 6.2, "box, longer side 10: radius 1", ha="center", fontsize=9)
    bare(left)

    scores = {
        "visible\nleft wheel": (0.92, 0.55),
        "visible\nmirror": (0.81, 0.88),
        "hidden\nright wheel": (None, 0.78),
    }
    for k, (positive, negative) in enumerate(scores.values()):
        if positive is not None:
            right.bar(
                k - 0.19, positive, 0.34, color=RIGHT, label="best inside: positive" if k == 0 else None
            )
        right.bar(k + (0.19 if positive is not None else 0), negative, 0.34, color=WRONG,
                  label="best outside: negative" if k == 0 else None)  # fmt: skip
    right.set_xticks(range(3), list(scores))
    right.set(ylim=(0, 1.3), ylabel="similarity", title="KAP@0.10")
    right.set_yticks([0, 0.5, 1])
    right.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)
    right.spines[["top", "right"]].set_visible(False)
    return figure


def bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def ball(axes: Axes, centre: tuple[float, float], radius: float) -> None:
    axes.add_patch(Circle(centre, radius, facecolor="#f4f4f4", edgecolor=FAINT))
    axes.add_patch(Ellipse(centre, 2 * radius, 0.5 * radius, fill=False, edgecolor=FAINT, linewidth=0.7))


def dot(axes: Axes, at: Any, colour: str, name: str = "") -> None:
    axes.plot(*at, "o", color=colour, markersize=6)
    axes.text(at[0] + 0.1, at[1] + 0.06, name, color=colour, fontsize=10)


def arrow(axes: Axes, start: Any, end: Any, colour: str = INK, style: str = "-|>") -> None:
    axes.add_patch(
        FancyArrowPatch(
            tuple(start), tuple(end), arrowstyle=style, mutation_scale=11, color=colour, linewidth=1.5
        )
    )


def main() -> None:
    instance = make_instance("car", np.random.default_rng(3))
    subject = solid(instance.mesh)
    points = {name: np.asarray(point, dtype=np.float64) for name, point in instance.keypoints.items()}
    OUT.mkdir(exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, figure in (
            ("confusion", confusion(subject, points)),
            ("sphere", sphere(subject)),
            ("basins", basins(subject, points["door_handle_left"])),
        ):
            figure.set_dpi(110)
            FigureCanvasAgg(figure).print_png(OUT / f"{name}.png", metadata={"Software": None})
        for name, figure in (("losses", losses()), ("metrics", metrics())):
            with (OUT / f"{name}.svg").open("w", encoding="utf-8") as stream:
                FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
