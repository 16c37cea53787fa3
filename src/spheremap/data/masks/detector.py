"""Mask R-CNN of torchvision (He et al. 2017; the v2 after Li et al. 2021), one picture at a time."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models.detection import (
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import FrozenBatchNorm2d

from spheremap.base.device import exact_convolutions
from spheremap.base.errors import InputError
from spheremap.base.files import sha256_file
from spheremap.config.data_sets import DetectedMasks, DetectorWeights
from spheremap.config.data_sets import DetectorModel as Model
from spheremap.data.adapter_tools import refusal
from spheremap.data.masks.detections import Detections

HUB = {
    "maskrcnn_resnet50_fpn_v2": MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    "maskrcnn_resnet50_fpn": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
}
CLASSES: tuple[str, ...] = tuple(MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"])
_UNUSED = ("__background__", "N/A")  # ids of COCO that name no class
LONGER = 1333 / 800  # bound of the longer side as a multiple of the shorter: torchvision's defaults
CORRECT = "correct masks.model or masks.weights of the data set in params.yaml"
MASK_THRESHOLD = 0.5  # on the mask's probability, as in Mask R-CNN


class MaskRCNNDetector:
    """A `Detector`; see `spheremap.data.masks.detections`.

    Attributes:
        classes: names of the COCO classes it tells apart.
        identity: model, SHA-256 of the weights, settings, versions and kind of device.
    """

    def __init__(self, params: DetectedMasks, device: torch.device) -> None:
        """Fetch the weights if need be, and load them.

        Raises:
            InputError: if the weights cannot be had, are not what their SHA-256 says, or do not fit the
                model.
        """
        path = locate_weights(params.model, params.weights)
        self.weights_sha256 = sha256_file(path)
        wanted = params.weights.sha256
        if wanted not in (None, self.weights_sha256):
            fix = "do not use this file; correct masks.weights.sha256 if another version is meant"
            problem, found = "wrong SHA-256 of the detector's weights", self.weights_sha256
            raise refusal(problem, path, str(wanted), found, fix)
        state = _read_state(path)
        self.classes: Sequence[str] = [name for name in CLASSES if name not in _UNUSED]
        self.identity: dict[str, Any] = {
            "model": params.model,
            "weights": self.weights_sha256,
            "image_size": params.image_size,
            "score": params.score,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "device": device.type,
        }
        self._device = device
        model = build_model(params.model, image_size=params.image_size, score=params.score)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:  # they belong to another model
            raise _unusable(path, " ".join(str(error).split())[:600]) from error
        # only now: before, a tensor of a few bytes may claim any size
        if broken := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
            raise _unusable(path, f"NaN or infinity in {broken[0]}")
        self._model: Any = model.requires_grad_(False).eval().to(device)

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """The objects in a picture `(H, W, 3)`; a mask is enlarged to the picture only when asked for."""
        size = image.shape[:2]
        pixels = torch.from_numpy(image).to(self._device).permute(2, 0, 1).float() / 255  # (3, H, W)
        with exact_convolutions():
            # the steps of the model's own `forward`, but for pasting: 100 masks of a large photograph at its
            # full size take gigabytes, and one of them is wanted
            images, _ = self._model.transform([pixels])
            features = self._model.backbone(images.tensors)
            proposals, _ = self._model.rpn(images, features, None)
            (found,), _ = self._model.roi_heads(features, proposals, images.image_sizes, None)
        boxes: Tensor = resize_boxes(found["boxes"], images.image_sizes[0], size).cpu()  # (K, 4)
        masks: Tensor = found["masks"].cpu()  # (K, 1, 28, 28), probabilities within the boxes

        def mask(k: int) -> NDArray[np.bool_]:
            pasted = paste_masks_in_image(masks[k : k + 1], boxes[k : k + 1], size)
            return (pasted[0, 0] >= MASK_THRESHOLD).numpy()

        return Detections(
            boxes=boxes.double().numpy(),
            scores=found["scores"].double().cpu().numpy(),
            labels=[CLASSES[label] for label in found["labels"].tolist()],
            mask=mask,
        )


def build_model(model: Model, *, image_size: int, score: float) -> MaskRCNN:
    """The architecture that fits torchvision's published weights, on the CPU; its own weights are random.

    The caller's random numbers are left alone.
    """
    settings = {"min_size": image_size, "max_size": round(image_size * LONGER), "box_score_thresh": score}
    with torch.random.fork_rng(devices=[]):
        if model == "maskrcnn_resnet50_fpn_v2":
            return maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **settings)
        # The weights of version 1 belong to frozen normalisation layers without epsilon. torchvision builds
        # those only along with a download, so that its two steps are repeated here.
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
        network = MaskRCNN(backbone, num_classes=len(CLASSES), **settings)
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
    return network


def locate_weights(model: Model, weights: DetectorWeights) -> Path:
    """The file of weights, downloaded if it comes from the hub and is not there yet.

    torchvision's addresses hold the first digits of the file's SHA-256, which are checked, too.

    Raises:
        InputError: if there is no such file or it cannot be downloaded.
    """
    if weights.path is not None:
        path = Path(weights.path)
        if not path.is_file():
            raise refusal("the detector's weights do not exist", path, "a file", "none", CORRECT)
        return path
    url = HUB[model].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    prefix = path.stem.rsplit("-", 1)[1]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix)
        except (OSError, RuntimeError) as error:
            fix = f"check the network, or bring {path.name} and set weights to {{source: file, path: …}}"
            problem = "cannot download the detector's weights"
            raise refusal(problem, url, "a complete file", str(error), fix) from error
    found = sha256_file(path)
    if not found.startswith(prefix):
        problem = "the detector's weights are damaged"
        raise refusal(problem, path, f"SHA-256 {prefix}…", found, "delete the file")
    return path


def _read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict.

    Raises:
        InputError: if the file cannot be read or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, UnpicklingError) as error:
        raise _unusable(path, str(error) or type(error).__name__) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise _unusable(path, type(state).__name__)
    return state


def _unusable(path: Path, found: str) -> InputError:
    expected = "the state dict of torchvision's model of that name"
    return refusal("cannot use the detector's weights", path, expected, found, CORRECT)
