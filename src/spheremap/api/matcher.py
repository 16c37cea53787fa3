"""Head and backbone as one object that answers questions about photographs."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from spheremap.api.bundle import Bundle, read_bundle
from spheremap.api.named_heads import find_bundle
from spheremap.api.protocol import Protocol
from spheremap.api.results import Matches, SphereMap, Warp
from spheremap.base.choices import DEFAULT_HEAD
from spheremap.base.device import choose_device
from spheremap.base.errors import InputError, ProvenanceError
from spheremap.data.images import Photograph, as_photograph, load_photograph
from spheremap.features.backbones.extractor import Extractor
from spheremap.features.cache.views import make_view, whole_box
from spheremap.features.geometry import Grid, patch_centres, patches_of_picture
from spheremap.methods.engine.descriptors import interpolate, unit, weighted_sum
from spheremap.methods.engine.readout import best_patch, place
from spheremap.methods.engine.sampling import sample_patches
from spheremap.methods.fused import FEATURES, SPHERE, paper
from spheremap.model.domain import token_deviation
from spheremap.model.head import sphere_points

FUSED = "fused"


@dataclass(frozen=True, repr=False)
class Description:
    """A photograph as the networks see it; N = rows * columns of patches.

    Attributes:
        photograph: its pixels and size.
        grid: rows and columns of patches.
        box: `(4,)` the region that the patches cover, in the photograph's pixels.
        tokens: `(N, D)` float16, as the backbone gives them: what points between patches are mixed from.
        features: `(N, D)` the same at unit length.
        points: `(N, 3)` points on the sphere.
        share: how far the photograph is like those that the head was trained on, from 0 to 1.
    """

    photograph: Photograph
    grid: Grid
    box: NDArray[np.float64]
    tokens: Tensor
    features: Tensor
    points: Tensor
    share: float

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centres `(N, 2)` of the patches in the photograph's pixels."""
        return patch_centres(self.box, self.grid)

    @property
    def padding(self) -> Tensor:
        """Patches `(N,)` that show padding, not the photograph."""
        padding = ~patches_of_picture(self.box, self.grid, self.photograph.size)
        return torch.from_numpy(padding).to(self.tokens.device)

    def __repr__(self) -> str:
        return f"<Description of {self.photograph!r} by {self.grid[0]}×{self.grid[1]} patches>"


# a path, RGB (H, W, 3), an image of Pillow, or one described before
Photo = str | os.PathLike[str] | NDArray[np.uint8] | Image.Image | Description


class Matcher:
    """Finds the same parts of objects in two photographs, and maps a photograph to the sphere.

    Coordinates are (x, y) in pixels of the photograph as a viewer shows it (upright), from its upper left
    corner. Everywhere a photograph is asked for, a path does, or an RGB array `(H, W, 3)` uint8, or an image
    of Pillow, or what `describe` made of it, so that the networks run once however often it is used. No
    category and no mask is needed: the sphere mapper knows neither.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        weights: Path | None = None,
        device: torch.device | str = "cpu",
        size: int | None = None,
        protocol: Protocol | None = None,
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
        self._domain = bundle.domain
        self._size = about.backbone.image_size.eval if size is None else size
        self._grid = self._extractor.grid(self._size)
        self._model = about.backbone.model
        self.categories = list(about.categories)
        self.weight = about.weight
        self.sphere_weight = about.sphere_weight
        self.protocol = about.protocol if protocol is None else protocol
        self._readout = self.protocol.make_readout()

    def __repr__(self) -> str:
        return (
            f"<Matcher of {len(self.categories)} categories, {self._model} at {self._size} px, {self.weight}>"
        )

    def describe(self, photo: Photo) -> Description:
        """Run the networks on a photograph.

        Raises:
            InputError: if it cannot be read, is too small or too large, or is larger than the input at fit
                "original".
        """
        if isinstance(photo, Description):
            return photo
        if isinstance(photo, np.ndarray):
            photograph, where = _from_array(photo), "array"
        elif isinstance(photo, Image.Image):
            photograph, where = as_photograph(photo, "image"), "image"
        else:
            photograph, where = load_photograph(Path(photo).expanduser()), str(photo)
        box = whole_box(photograph.size, self.protocol.fit, self._size, self._grid, where)
        height, width = photograph.pixels.shape[:2]
        view = make_view(
            photograph.pixels,
            np.zeros((height, width), dtype=bool),
            photograph.in_pixels(box),
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
        share = 1.0
        if self._domain is not None:
            inside = torch.from_numpy(patches_of_picture(box, self._grid, photograph.size)[None]).to(
                tokens.device
            )
            share = float(self._domain.share(token_deviation(tokens, inside)))
        return Description(
            photograph=photograph,
            grid=self._grid,
            box=box,
            tokens=tokens[0],
            features=unit(tokens[0]),
            points=points,
            share=share,
        )

    def weight_for(self, source: Description, target: Description) -> float:
        """The sphere's weight for two photographs: less where one is unlike those of training."""
        return self.sphere_weight * min(source.share, target.share)

    def similarity(
        self,
        source: Description,
        target: Description,
        xy: NDArray[np.float64],
        sphere_weight: float | None = None,
    ) -> dict[str, Tensor]:
        """How similar points `(K, 2)` of the source are to all target patches: method to `(K, N)`.

        The methods are `features`, `sphere` and `fused`, see `spheremap.methods.fused.paper`.
        """
        device = source.tokens.device
        sampled, share = (
            torch.from_numpy(array).to(device)
            for array in sample_patches(xy, source.box, source.grid, self.protocol.source)
        )
        products = {
            FEATURES: interpolate(source.tokens[sampled], share) @ target.features.T,
            SPHERE: interpolate(source.points[sampled], share) @ target.points.T,
        }
        methods = paper(self.weight_for(source, target) if sphere_weight is None else sphere_weight)
        return {
            name: weighted_sum((weight, products[part]) for part, weight in method.parts().items())
            for name, method in methods.items()
        }

    def match(
        self,
        source: Photo,
        target: Photo,
        points: ArrayLike,
        *,
        sphere_weight: float | None = None,
        padding: bool = False,
    ) -> Matches:
        """Where in the target are these points of the source?

        The answer is the centre of the patch whose descriptor is nearest to that of the point, or a
        soft-argmax in a window about it, by the matcher's protocol. Patches of the padding are left out.

        Args:
            source: photograph with the points.
            target: photograph to find them in.
            points: `(K, 2)` as (x, y) in pixels of the source.
            sphere_weight: of the sphere in the fused similarity, in [0, 1]; None: the bundle's, and less for
                photographs unlike those of training.
            padding: whether a match may lie beyond the photograph, in the padding, as the evaluation has it.

        Raises:
            InputError: if a photograph cannot be read or a point lies outside the source.
        """
        a, b = self.describe(source), self.describe(target)
        xy = check_points(points, a.photograph.size)
        target_xy, values, there = {}, {}, []
        for method, similarity in self.similarity(a, b, xy, sphere_weight).items():
            target_xy[method], best = self.places(similarity, b, padding)
            values[method] = similarity.gather(1, best[:, None])[:, 0].cpu().numpy()
            there.append(b.centres[best.cpu().numpy()])
        # from the best patches of all methods at once; each goes back by its own similarity
        back = self.similarity(b, a, np.concatenate(there), sphere_weight)
        patch = (a.box[2:] - a.box[:2]) / a.grid[::-1]  # width, height
        returns = {}
        for number, (method, similarity) in enumerate(back.items()):
            own, _ = self.places(similarity[number * len(xy) : (number + 1) * len(xy)], a)
            returns[method] = np.linalg.norm((own - xy) / patch, axis=1)
        return Matches(
            source=a.photograph,
            target=b.photograph,
            source_xy=xy,
            target_xy=target_xy,
            similarity=values,
            returns=returns,
        )

    def places(
        self, similarity: Tensor, target: Description, padding: bool = False
    ) -> tuple[NDArray[np.float64], Tensor]:
        """Places `(K, 2)` in the target read from similarities `(K, N)`, and the best patches `(K,)`."""
        if not padding:
            similarity = similarity.masked_fill(target.padding, -torch.inf)
        best = best_patch(similarity)
        xy = place(self._readout(similarity, best, target.grid), target.box, target.grid)
        return xy if padding else np.clip(xy, 0, target.photograph.size), best

    def warp(self, source: Photo, target: Photo, *, sphere_weight: float | None = None) -> Warp:
        """Match every patch of the source, and say which matches lead back to where they started."""
        a, b = self.describe(source), self.describe(target)
        fused = self.similarity(a, b, a.centres, sphere_weight)[FUSED]
        target_xy, there = self.places(fused, b)
        back = fused.masked_fill(a.padding[:, None], -torch.inf).argmax(dim=0)[there].cpu()
        rows, columns = a.grid
        inside = patches_of_picture(a.box, a.grid, a.photograph.size)
        return Warp(
            source=a.photograph,
            target=b.photograph,
            source_box=a.box,
            target_box=b.box,
            source_xy=a.centres.reshape(rows, columns, 2),
            target_xy=target_xy.reshape(rows, columns, 2),
            similarity=fused.gather(1, there[:, None])[:, 0].cpu().numpy().reshape(rows, columns),
            mutual=(back == torch.arange(len(back))).numpy().reshape(rows, columns),
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
    bundle: str | os.PathLike[str] = DEFAULT_HEAD,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    size: int | None = None,
    fit: str | None = None,
    source: str | None = None,
    readout: str | None = None,
    window: int | None = None,
    temperature: float | None = None,
    sigma: float | None = None,
) -> Matcher:
    """Load a bundle, the file that `spheremap bundle` writes, or a head by name.

    Args:
        bundle: the file, or the name of a head: "quadrupeds", which is in the package, or that of a published
            one, such as "spair-71k", that is fetched once.
        weights: weights of its backbone, if they are neither inside nor to be fetched from their source.
        device: auto, cpu, cuda or cuda:N.
        size: side of the network's input in pixels, a multiple of the patch; None: as in the evaluation.
        fit: how a photograph becomes the square input: pad (black borders), stretch, or original (a pixel
            stays a pixel, black around). This and the following: None: as in the bundle, which has it from
            the evaluation; see docs/protocols.md.
        source: what describes a point of the source: its patch, or a bilinear mixture of the nearest four.
        readout: how a place is read from the similarities: argmax, window (soft-argmax in one), or kernel
            (soft-argmax under a Gaussian).
        window: odd side of that window, in patches.
        temperature: of the soft-argmax (read-outs window and kernel).
        sigma: standard deviation of that Gaussian, in patches.

    Raises:
        InputError: if there is no such bundle, published head or weights can be had, or the device, size or
            protocol be used.
        ProvenanceError: if the bundle cannot be read, or the weights are another backbone's.
    """
    chosen = choose_device(device)
    own = None if weights is None else Path(weights).expanduser()
    read = read_bundle(find_bundle(bundle, own), chosen)
    return Matcher(
        read,
        weights=own,
        device=chosen,
        size=size,
        protocol=read.about.protocol.changed(
            fit=fit, source=source, readout=readout, window=window, temperature=temperature, sigma=sigma
        ),
    )


def _from_array(pixels: NDArray[np.uint8]) -> Photograph:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise InputError(
            "not an RGB image", expected="(H, W, 3) uint8", found=f"{pixels.shape} {pixels.dtype}"
        )
    return as_photograph(Image.fromarray(pixels), "array")


def check_points(points: ArrayLike, size: tuple[int, int]) -> NDArray[np.float64]:
    """Points `(K, 2)` of a photograph of this (width, height).

    Raises:
        InputError: if they are no points, or one lies outside.
    """
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
