"""Head and backbone as one object that answers questions about photographs."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from spheremap.backbones.extractor import Extractor
from spheremap.cache.views import make_view
from spheremap.device import choose_device
from spheremap.errors import InputError, ProvenanceError
from spheremap.geometry import Grid, patch_centres, patch_of, square_box
from spheremap.head import sphere_points
from spheremap.images import Photograph, load_photograph
from spheremap.inference.bundle import Bundle, read_bundle
from spheremap.inference.results import Matches, SphereMap, Warp
from spheremap.matching.descriptors import mix, row_weights, unit

FUSED = "fused"


@dataclass(frozen=True)
class Description:
    """A photograph as the networks see it; N = rows * columns of patches.

    Attributes:
        photograph: its pixels and size.
        grid: rows and columns of patches.
        box: `(4,)` the square around the photograph that the patches cover, in its pixels.
        tokens: `(N, D)` unit features.
        points: `(N, 3)` points on the sphere.
    """

    photograph: Photograph
    grid: Grid
    box: NDArray[np.float64]
    tokens: Tensor
    points: Tensor

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centres `(N, 2)` of the patches in the photograph's pixels."""
        return patch_centres(self.box, self.grid)


Photo = (
    str | os.PathLike[str] | NDArray[np.uint8] | Description
)  # a path, RGB (H, W, 3), or one described before


class Matcher:
    """Finds the same parts of objects in two photographs, and maps a photograph to the sphere.

    Coordinates are (x, y) in pixels of the photograph as a viewer shows it (upright), from its upper left
    corner. Everywhere a photograph is asked for, a path does, or an RGB array `(H, W, 3)` uint8, or what
    `describe` made of it, so that the networks run once however often it is used. No category and no mask is
    needed: the sphere mapper knows neither.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        weights: Path | None = None,
        device: torch.device | str = "cpu",
        size: int | None = None,
    ) -> None:
        """Prefer `load`.

        Raises:
            InputError: if the size does not fit the patches.
            ProvenanceError: if weights, backbone and head do not belong together.
        """
        about = bundle.about
        with bundle.weights(weights) as path:
            self._extractor = Extractor(about.backbone, path, device=device, precision=about.precision)
        if self._extractor.dim != bundle.head.dim:
            raise ProvenanceError(
                "the head does not fit the backbone",
                where=bundle.path,
                expected=f"a head for features of width {self._extractor.dim}",
                found=str(bundle.head.dim),
            )
        self._head = bundle.head.to(device)
        self._size = about.backbone.image_size.eval if size is None else size
        self._grid = self._extractor.grid(self._size)
        self.categories = list(about.categories)
        self.sphere_weight = about.sphere_weight

    def describe(self, photo: Photo) -> Description:
        """Run the networks on a photograph.

        Raises:
            InputError: if it cannot be read.
        """
        if isinstance(photo, Description):
            return photo
        photograph = _from_array(photo) if isinstance(photo, np.ndarray) else load_photograph(Path(photo))
        height, width = photograph.pixels.shape[:2]
        view = make_view(
            photograph.pixels,
            np.zeros((height, width), dtype=bool),
            square_box(width, height),
            self._size,
            self._grid,
        )
        # rounded to float16 as in a feature cache, so that the answers are those of the evaluation
        tokens = self._extractor(torch.from_numpy(view.pixels[None].copy())).half()
        if not bool(torch.isfinite(tokens).all()):
            raise InputError(
                "the backbone's tokens do not fit float16", fix="choose another backbone or block"
            )
        points = unit(sphere_points(self._head, tokens)[0])
        if not bool(torch.isfinite(points).all()):
            raise ProvenanceError(
                "the head gives sphere points that are not finite",
                fix="train again, with a lower learning rate",
            )
        return Description(
            photograph=photograph,
            grid=self._grid,
            box=square_box(*photograph.size),
            tokens=unit(tokens[0]),
            points=points,
        )

    def similarity(
        self, source: Description, target: Description, patches: Tensor, sphere_weight: float | None = None
    ) -> dict[str, Tensor]:
        """How similar source patches `(K,)` are to all target patches: row of the table to `(K, N)`.

        The rows are `features`, `sphere` and `fused`, see `spheremap.matching.descriptors.row_weights`.
        """
        patches = patches.to(source.tokens.device)
        on_features = source.tokens[patches] @ target.tokens.T
        on_sphere = source.points[patches] @ target.points.T
        weights = row_weights(self.sphere_weight if sphere_weight is None else sphere_weight)
        return {row: mix(on_features, on_sphere, own) for row, own in weights.items()}

    def match(
        self, source: Photo, target: Photo, points: ArrayLike, *, sphere_weight: float | None = None
    ) -> Matches:
        """Where in the target are these points of the source?

        Each answer is the centre of the patch whose descriptor is nearest to that of the patch in which the
        point lies, as in Mariotti et al. 2024; it can lie beyond the shorter sides, in the padding.

        Args:
            source: photograph with the points.
            target: photograph to find them in.
            points: `(K, 2)` as (x, y) in pixels of the source.
            sphere_weight: of the sphere in the fused similarity, in [0, 1]; None: as in the bundle.

        Raises:
            InputError: if a photograph cannot be read or a point lies outside the source.
        """
        a, b = self.describe(source), self.describe(target)
        xy = _check_points(points, a.photograph.size)
        patches = torch.from_numpy(patch_of(xy, a.box, a.grid))
        found = self.similarity(a, b, patches, sphere_weight)
        best = {row: similarity.argmax(dim=1) for row, similarity in found.items()}  # the first of equals
        return Matches(
            source=a.photograph,
            target=b.photograph,
            source_xy=xy,
            target_xy={row: b.centres[there.cpu().numpy()] for row, there in best.items()},
            similarity={
                row: found[row].gather(1, there[:, None])[:, 0].cpu().numpy() for row, there in best.items()
            },
        )

    def warp(self, source: Photo, target: Photo, *, sphere_weight: float | None = None) -> Warp:
        """Match every patch of the source, and say which matches lead back to where they started."""
        a, b = self.describe(source), self.describe(target)
        everything = torch.arange(len(a.tokens))
        fused = self.similarity(a, b, everything, sphere_weight)[FUSED]
        there, back = fused.argmax(dim=1), fused.argmax(dim=0)
        values = fused.gather(1, there[:, None])[:, 0]
        rows, columns = a.grid
        width, height = a.photograph.size
        inside = ((a.centres >= 0) & (a.centres <= (width, height))).all(axis=1)
        return Warp(
            source=a.photograph,
            target=b.photograph,
            source_xy=a.centres.reshape(rows, columns, 2),
            target_xy=b.centres[there.cpu().numpy()].reshape(rows, columns, 2),
            similarity=values.cpu().numpy().reshape(rows, columns),
            mutual=(back[there].cpu() == everything).numpy().reshape(rows, columns),
            inside=inside.reshape(rows, columns),
        )

    def map(self, photo: Photo) -> SphereMap:
        """Where a photograph's patches lie on the sphere, and with that its colours."""
        description = self.describe(photo)
        return SphereMap(
            photograph=description.photograph,
            box=description.box,
            points=description.points.cpu().numpy().reshape(*description.grid, 3),
        )


def load(
    bundle: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    size: int | None = None,
) -> Matcher:
    """Load a bundle, the file that `spheremap bundle` writes.

    Args:
        bundle: the file.
        weights: weights of its backbone, if they are neither inside nor to be fetched from their source.
        device: auto, cpu, cuda or cuda:N.
        size: side of the network's input in pixels, a multiple of the patch; None: as in the evaluation.

    Raises:
        InputError: if the weights cannot be had, or the device or size be used.
        ProvenanceError: if the bundle cannot be read, or the weights are another backbone's.
    """
    chosen = choose_device(device)
    return Matcher(
        read_bundle(Path(bundle), chosen),
        weights=None if weights is None else Path(weights),
        device=chosen,
        size=size,
    )


def _from_array(pixels: NDArray[np.uint8]) -> Photograph:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise InputError(
            "not an RGB image", expected="(H, W, 3) uint8", found=f"{pixels.shape} {pixels.dtype}"
        )
    return Photograph(pixels, (pixels.shape[1], pixels.shape[0]))


def _check_points(points: ArrayLike, size: tuple[int, int]) -> NDArray[np.float64]:
    try:
        xy = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            "the points are not numbers", expected="(K, 2) as (x, y)", found=str(error)
        ) from error
    if xy.ndim != 2 or xy.shape[1] != 2 or not len(xy):
        raise InputError("no list of points", expected="(K, 2) as (x, y), K >= 1", found=str(xy.shape))
    outside = ~((xy >= 0) & (xy <= size)).all(axis=1)
    if outside.any():
        number = int(np.argmax(outside))
        raise InputError(
            f"point {number + 1} lies outside the source photograph",
            expected=f"0 <= x <= {size[0]} and 0 <= y <= {size[1]}, in pixels of the upright photograph",
            found=f"{xy[number, 0]:g},{xy[number, 1]:g}",
        )
    return xy
