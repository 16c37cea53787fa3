"""Sections `datasets` and `downloads`: a layout and a root each, and where the files come from."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from spheremap.config.fields import (
    STRICT,
    Ascending,
    Count,
    Name,
    Natural,
    Positive,
    Root,
    Seed,
    Sha256,
    Share,
    Some,
    Split,
    Text,
    need,
)

ShapeCategory = Literal["aeroplane", "bicycle", "car", "chair", "quadruped"]
DetectorModel = Literal["maskrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn"]
Outside = Literal["error", "hide"]
Groups = Annotated[
    Text | None,
    Field(
        description="Which keypoints are alike: shapes, spair-71k, ap-10k or livestock, or a JSON file of "
        "one's own (docs/datasets/folder.md); null: not known."
    ),
]


# --- masks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, config=STRICT)
class OwnMasks:
    """The data set's own masks, as they are; an image without one counts with its whole box."""

    source: Literal["own"] = Field(description="The data set's own masks.")


@dataclass(frozen=True, config=STRICT)
class NoMasks:
    """No masks: the whole box counts as the object."""

    source: Literal["none"] = Field(description="No masks: the whole box is the object.")


@dataclass(frozen=True, config=STRICT)
class DetectorWeights:
    """Where the detector's weights come from."""

    source: Literal["hub", "file"] = Field(description="torchvision's own address, or a file.")
    path: str | None = Field(
        default=None, description="A state dict as torchvision publishes it (.pth), or as safetensors."
    )
    sha256: Sha256 | None = Field(
        default=None, description="Of the file; null: unchecked, but recorded with the masks."
    )

    @model_validator(mode="after")
    def _check(self) -> "DetectorWeights":
        need((self.source == "file") == (self.path is not None), "source: file needs a path, hub has none")
        return self


@dataclass(frozen=True, config=STRICT)
class DetectedMasks:
    """Masks by torchvision's Mask R-CNN, else the data set's own, else the whole box."""

    source: Literal["maskrcnn"] = Field(description="Masks by torchvision's Mask R-CNN.")
    model: DetectorModel = Field(
        description="Which of torchvision's two; the authors of the spherical maps use the v2."
    )
    weights: DetectorWeights = Field(description="Where its weights come from.")
    image_size: Annotated[int, Field(ge=32)] = Field(
        description="Shorter side in px to which images are resized, the longer one at most 5/3 of it; "
        "torchvision's weights were trained with 800."
    )
    score: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="Detections must score above this; 0.9 in the authors' code."
    )
    min_iou: Annotated[float, Field(gt=0, le=1)] | None = Field(
        description="Intersection over union with the tables' box, at least, of the best detection; "
        "null: the highest score counts, as in the authors' code."
    )
    classes: dict[str, str] = Field(
        description="COCO class to look for, by category, or any; the usual ones are known."
    )


Masks = Annotated[OwnMasks | NoMasks | DetectedMasks, Field(discriminator="source")]


# --- layouts ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, config=STRICT)
class SplitCounts:
    """A number for each split."""

    train: Natural = Field(description="For training.")
    val: Natural = Field(description="For validation.")
    test: Natural = Field(description="For the test.")

    def of(self, split: str) -> int:
        """The number of a split."""
        return int(getattr(self, split))


def _some(counts: SplitCounts) -> SplitCounts:
    need(counts.train + counts.val + counts.test > 0, "expected 1 or more in all")
    return counts


@dataclass(frozen=True, config=STRICT)
class Shares:
    """How instances are divided; the three add up to 1."""

    train: Share = Field(description="For training.")
    val: Share = Field(description="For validation.")
    test: Share = Field(description="For the test.")

    @model_validator(mode="after")
    def _check(self) -> "Shares":
        need(abs(self.train + self.val + self.test - 1) < 1e-6, "expected three shares adding up to 1")
        return self


@dataclass(frozen=True, config=STRICT)
class Borrow:
    """Splits taken from another data set."""

    entry: "Entry" = Field(description="The other data set, as an entry of `datasets`.")
    splits: Some[Split] = Field(description="What to take; the data set must not have them itself.")
    categories: Some[str] | None = Field(
        description="Only pairs between images of these; null: of all categories."
    )


@dataclass(frozen=True, config=STRICT)
class Terms:
    """What a user of a data set should know."""

    licence: Text = Field(description="As far as one is stated.")
    citation: Text = Field(description="What to cite.")
    homepage: str = Field(description="Where it is from.")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Stored:
    """What all data sets share that are read from files."""

    masks: Masks = Field(description="Which foreground masks are used.")
    download: Some[Name] = Field(default=(), description="Entries of `downloads` that bring it.")
    terms: Terms | None = Field(
        default=None, description="Of files that nothing downloads; bundles that learned from them carry it."
    )
    borrow: Borrow | None = Field(default=None, description="Splits taken from another data set.")
    keypoint_groups: Groups = None


@dataclass(frozen=True, config=STRICT)
class Shapes:
    """Drawn objects. Distances in radii of the object's bounding sphere."""

    layout: Literal["shapes"] = Field(description="Rendered here; nothing to download.")
    root: Root = Field(description="Where the workflow puts the data set.")
    seed: Seed = Field(description="Of everything drawn at random.")
    categories: Some[ShapeCategory] = Field(description="Which objects.")
    image_size: Annotated[int, Field(ge=64)] = Field(description="Side of the square pictures in px.")
    instances: Annotated[SplitCounts, AfterValidator(_some)] = Field(
        description="Objects per category; the splits share none."
    )
    views_per_instance: Annotated[int, Field(ge=8, multiple_of=8)] = Field(
        description="Pictures of each object; each of the 8 azimuth bins is seen equally often."
    )
    azimuth_jitter: Annotated[float, Field(ge=0, le=22.5)] = Field(
        description="Degrees about the middle of a bin in which azimuths are drawn; 22.5 is half a bin."
    )
    elevation: Ascending[Annotated[float, Field(ge=0, le=85)]] = Field(
        description="Least and greatest elevation of the camera in degrees."
    )
    roll: Annotated[float, Field(ge=0, le=45)] = Field(
        description="Degrees by which the camera is tilted sideways, at most."
    )
    distance: Ascending[Annotated[float, Field(ge=1.5, le=1000)]] = Field(
        description="Least and greatest distance of the camera in radii: the nearer, the more perspective."
    )
    object_size: Ascending[Annotated[float, Field(ge=0.2, le=1)]] = Field(
        description="Least and greatest longer side of the object, as a share of the picture's side."
    )
    shift: Annotated[float, Field(ge=0, le=0.5)] = Field(
        description="How far the object is off the middle, at most, as a share of the picture's side."
    )
    pairs: SplitCounts = Field(description="Pairs of pictures per category.")
    min_shared_keypoints: Count = Field(description="Keypoints that both pictures of a pair show, at least.")
    keypoint_groups: Groups = None


@dataclass(frozen=True, config=STRICT)
class SPair(Stored):
    """SPair-71k, or a folder of the same layout."""

    layout: Literal["spair"] = Field(description="The layout of SPair-71k.")
    root: Root = Field(description="Folder with Layout, ImageAnnotation and JPEGImages.")
    class_ids: dict[str, Annotated[int, Field(ge=1, le=255)]] = Field(
        description="Mask values of categories other than PASCAL VOC's twenty."
    )


@dataclass(frozen=True, config=STRICT)
class SPairU(Stored):
    """SPair-U: further keypoints on SPair-71k's test images."""

    layout: Literal["spair_u"] = Field(description="The layout of SPair-U.")
    root: Root = Field(description="Folder of its annotations.")
    spair: Text = Field(description="Folder of SPair-71k, for the images.")


@dataclass(frozen=True, config=STRICT)
class FreiburgCars(Stored):
    """Freiburg Static Cars 52: to train on; it has no keypoints."""

    layout: Literal["freiburg_cars"] = Field(description="The layout of Freiburg Static Cars 52.")
    root: Root = Field(description="Folder with the annotations.")
    frontal: Annotated[float, Field(ge=0, lt=360)] = Field(
        description="The annotated azimuth of the frontal view in degrees."
    )


@dataclass(frozen=True, config=STRICT)
class PFPascal(Stored):
    """PF-PASCAL with the lists of pairs in use."""

    layout: Literal["pf_pascal"] = Field(description="The layout of PF-PASCAL.")
    root: Root = Field(description="Folder with Annotations and JPEGImages.")
    pairs: Text = Field(description="Folder of the lists of pairs.")
    box: Literal["object", "image"] = Field(
        description="What PCK is relative to: the object's box, or the image (as published on this data set)."
    )


@dataclass(frozen=True, config=STRICT)
class AP10K(Stored):
    """AP-10K with the pairs of the benchmark made of it."""

    layout: Literal["ap10k"] = Field(description="The layout of AP-10K.")
    root: Root = Field(description="Folder with annotations and data.")
    crowd_list: str | None = Field(
        description="File, from root, of images left out because they show several animals; null: those with "
        "several annotations are."
    )
    pairs: Literal["intra", "cross-species", "cross-family"] = Field(
        description="Whether pairs show one species, two of a family, or two families."
    )
    splits: Some[Split] = Field(description="Splits to write; only intra has train.")
    outside: Outside = Field(description="What a keypoint outside its image is: an error, or hidden.")
    seed: Seed = Field(description="Of the pairs drawn.")

    @model_validator(mode="after")
    def _check(self) -> "AP10K":
        need("train" not in self.splits or self.pairs == "intra", "splits: only pairs: intra has train")
        return self


@dataclass(frozen=True, config=STRICT)
class AwaPose(Stored):
    """AwA-Pose on the images of AwA2: quadrupeds."""

    layout: Literal["awa_pose"] = Field(description="The layout of AwA-Pose beside AwA2.")
    root: Root = Field(description="Folder of both.")
    images: Text = Field(description="Folder of the images, in root.")
    annotations: Text = Field(description="Folder of the annotations, in root.")
    categories: Some[str] | None = Field(description="Animals to read; null: all 35.")
    outside: Outside = Field(description="What a keypoint outside its picture is: an error, or hidden.")
    pairs: Literal["within", "across"] = Field(
        description="Whether pairs show one animal or two different ones."
    )
    max_pairs: Count = Field(description="Pairs drawn, at most.")
    min_shared_keypoints: Count = Field(description="Keypoints that both pictures of a pair show, at least.")
    seed: Seed = Field(description="Of the pairs drawn.")


@dataclass(frozen=True, config=STRICT)
class Folder(Stored):
    """A folder of one's own, with tables of images, keypoints and perhaps pairs."""

    layout: Literal["folder"] = Field(description="A folder of one's own (docs/datasets/folder.md).")
    root: Root = Field(description="Folder with images.csv.")
    bins: Count | None = Field(
        description="Number of bins of the column azimuth_bin; null where azimuths are degrees or unknown."
    )
    shares: Shares = Field(description="How instances are divided where images.csv has no column split.")
    max_pairs: Count = Field(description="Pairs drawn for val, and for test, at most.")
    min_shared_keypoints: Count = Field(description="Keypoints that both images of a pair show, at least.")
    seed: Seed = Field(description="Of splits and pairs.")


@dataclass(frozen=True, config=STRICT)
class Other(Stored):
    """A layout whose keys are described in the file of its adapter; see `without_its_own`."""

    layout: Literal["any other file of data/adapters"] = Field(
        description="Any other module of spheremap.data.adapters."
    )
    root: Root = Field(description="Where its files lie.")


Entry = Annotated[
    Shapes | SPair | SPairU | FreiburgCars | PFPascal | AP10K | AwaPose | Folder | Other,
    Field(discriminator="layout"),
]
LAYOUTS = {get_args(of.__annotations__["layout"])[0] for of in get_args(get_args(Entry)[0])}
ADAPTERS = Path(__file__).parents[1] / "data" / "adapters"


def without_its_own(entry: Any) -> Any:
    """An entry as it is, or, if only an adapter's file knows its layout, what all data sets share of it."""
    layout = entry.get("layout") if isinstance(entry, dict) else None
    known = not isinstance(layout, str) or layout in LAYOUTS or not re.fullmatch("[a-z][a-z0-9_]*", layout)
    if known or not (ADAPTERS / f"{layout}.py").is_file():
        return entry
    shared = {field.name for field in fields(Stored)} | {"root"}
    return {key: value for key, value in entry.items() if key in shared} | {
        "layout": "any other file of data/adapters"
    }


# --- downloads ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, config=STRICT)
class RemoteFile:
    """One file of a data set."""

    name: Name = Field(description="Of the downloaded file.")
    urls: tuple[str, ...] = Field(default=(), description="Mirrors, in the order tried.")
    drive: str | None = Field(default=None, description="Id of a file of Google Drive, tried last.")
    size: Count | None = Field(default=None, description="Bytes.")
    sha256: Sha256 | None = Field(
        default=None,
        description="As published; without it the first download is trusted and its digest written down.",
    )
    unpack: bool = Field(default=True, description="Whether it is a zip or tar archive to unpack.")
    into: str = Field(default=".", description="Folder inside the data set's.")

    @model_validator(mode="after")
    def _check(self) -> "RemoteFile":
        need(bool(self.urls or self.drive), "expected an address in urls, or the id of a file in drive")
        return self


@dataclass(frozen=True, config=STRICT)
class Limits:
    """How much an archive may unpack to."""

    members: Count = Field(default=200_000, description="Files and folders, at most.")
    bytes: Count = Field(default=100_000_000_000, description="Bytes, at most.")
    ratio: Positive = Field(default=200.0, description="Unpacked bytes per byte of the archive, at most.")


@dataclass(frozen=True, config=STRICT)
class Download(Terms):
    """Files of one data set; its terms are shown before the first download."""

    files: Annotated[tuple[RemoteFile, ...], Field(min_length=1)] = Field(description="What to fetch.")
    limits: Limits = Field(default=Limits(), description="How much its archives may unpack to.")

    @model_validator(mode="after")
    def _check(self) -> "Download":
        names = [file.name for file in self.files]
        need(len(set(names)) == len(names), "expected files of different names")
        return self
