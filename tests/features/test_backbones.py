"""Weight sources and the extractor, against timm itself."""

import dataclasses
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from spheremap.base.errors import InputError, ProvenanceError
from spheremap.base.files import sha256_file
from spheremap.base.tensors import read_tensors, write_tensors
from spheremap.config.backbone import Backbone as BackboneSpec
from spheremap.config.backbone import ImageSizes, WeightsSpec
from spheremap.features.backbones import weights as module
from spheremap.features.backbones.extractor import Extractor
from spheremap.features.backbones.weights import create_vit, fetch_weights, load_vit

SPEC = BackboneSpec("test_vit", WeightsSpec("random", seed=0), 3, False, "token", ImageSizes(32, 48))


def make(spec: BackboneSpec, folder: Path) -> Path:
    out = folder / f"{spec.model}.safetensors"
    fetch_weights(spec, out)
    return out


def lively(path: Path) -> Path:
    """Give every parameter a sizeable random value: a fresh ViT's biases are zero, its layers near idle."""
    generator = torch.Generator().manual_seed(1)
    tensors, content = read_tensors(path)
    state = {k: v + 0.2 * torch.randn(v.shape, generator=generator) for k, v in sorted(tensors.items())}
    assert content is not None
    write_tensors(path, state, content)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively(make(SPEC, tmp_path_factory.mktemp("weights")))


def pictures(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(
        0, 256, (batch, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def normalised(images: torch.Tensor, mean: float = 0.5, std: float = 0.5) -> torch.Tensor:
    """test_vit's own normalisation, mean and standard deviation 0.5."""
    return ((images.double() / 255 - mean) / std).float().permute(0, 3, 1, 2)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("block", [0, 3, 5])
def test_tokens_are_timms_block_output(weights: Path, block: int, norm: bool) -> None:
    spec = dataclasses.replace(SPEC, block=block, norm=norm)
    images = pictures(48)
    tokens = Extractor(spec, weights)(images)
    with torch.no_grad():
        expected = load_vit("test_vit", weights).forward_intermediates(
            normalised(images), indices=[block], norm=norm, output_fmt="NLC", intermediates_only=True
        )[0]  # without prefix tokens
    assert tokens.shape == (2, 9, 64)
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=1e-4)


def test_position_embeddings_are_resampled_bicubic_antialiased(weights: Path) -> None:
    state = load_file(weights)
    position = state["pos_embed"]  # 1 + 10 × 10
    grid = position[:, 1:].reshape(1, 10, 10, 64).permute(0, 3, 1, 2)
    small = F.interpolate(grid, size=(3, 3), mode="bicubic", antialias=True, align_corners=False)
    state["pos_embed"] = torch.cat([position[:, :1], small.flatten(2).transpose(1, 2)], dim=1)
    fixed = timm.create_model("test_vit", img_size=48, num_classes=0, dynamic_img_size=False).eval()
    fixed.load_state_dict(state)
    images = pictures(48)
    with torch.no_grad():
        expected = fixed.forward_features(normalised(images))[:, 1:]
    tokens = Extractor(dataclasses.replace(SPEC, block=5, norm=True), weights)(images)
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("facet", "part"), [("query", 0), ("key", 1), ("value", 2)])
def test_facets_are_the_parts_of_qkv(weights: Path, facet: str, part: int) -> None:
    images = pictures(32)
    vit = load_vit("test_vit", weights)
    seen: list[torch.Tensor] = []
    vit.blocks[3].attn.qkv.register_forward_hook(lambda _module, _args, output: seen.append(output))
    with torch.no_grad():
        vit.forward_features(normalised(images))
    expected = seen[0].reshape(2, 5, 3, 64)[:, 1:, part]
    tokens = Extractor(dataclasses.replace(SPEC, facet=facet), weights)(images)
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=1e-4)


def test_register_tokens_are_dropped(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, model="test_vit2")  # one register, no class token
    images = pictures(32)
    path = lively(make(spec, tmp_path))
    with torch.no_grad():
        vit = load_vit("test_vit2", path)
        vit.blocks = vit.blocks[:4]
        x = vit.patch_embed(normalised(images))
        expected = vit.blocks(vit._pos_embed(x))[:, 1:]
    torch.testing.assert_close(Extractor(spec, path)(images), expected, atol=1e-4, rtol=1e-4)


def test_rotary_model(tmp_path: Path) -> None:
    """DINOv3: no position table, four registers, a fused qkv whose biases are parameters of their own."""
    name = "vit_tiny_patch16_dinov3_qkvb"
    spec = BackboneSpec(name, WeightsSpec("random", seed=0), 2, False, "token", ImageSizes(32, 48))
    path = lively(make(spec, tmp_path))
    images = pictures(48, batch=1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((images / 255 - mean) / std).permute(0, 3, 1, 2)
    vit = load_vit(name, path)
    seen: list[torch.Tensor] = []
    vit.blocks[2].norm1.register_forward_hook(lambda _module, _args, output: seen.append(output))
    with torch.no_grad():
        expected = vit.forward_intermediates(x, indices=[2], output_fmt="NLC", intermediates_only=True)[0]
        attention = vit.blocks[2].attn
        query = F.linear(seen[0], attention.qkv.weight.chunk(3)[0], attention.q_bias)[:, 5:]
    torch.testing.assert_close(Extractor(spec, path)(images), expected, atol=1e-4, rtol=1e-4)
    tokens = Extractor(dataclasses.replace(spec, facet="query"), path)(images)
    assert tokens.shape == (1, 9, 192)
    torch.testing.assert_close(tokens, query, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "patch"), [("vit_tiny_r_s16_p8_224", 32), ("test_vit", 16)])
def test_a_patch_is_what_a_token_sees_of_the_picture(tmp_path: Path, name: str, patch: int) -> None:
    """A hybrid ViT divides the feature map of a convolutional network, not the picture, into patches."""
    spec = BackboneSpec(name, WeightsSpec("random", seed=0), 0, False, "token", ImageSizes(64, 64))
    extractor = Extractor(spec, make(spec, tmp_path))
    assert extractor.patch == patch
    rows, columns = extractor.grid(64)
    assert extractor(pictures(64)).shape[1] == rows * columns


def test_later_blocks_are_not_computed(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    forward = timm.models.vision_transformer.Block.forward

    def counting(self: torch.nn.Module, *args: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return forward(self, *args)

    monkeypatch.setattr(timm.models.vision_transformer.Block, "forward", counting)
    Extractor(dataclasses.replace(SPEC, block=2), weights)(pictures(32))
    assert len(calls) == 3


def test_an_image_does_not_depend_on_its_batch(weights: Path) -> None:
    extractor, images = Extractor(SPEC, weights), pictures(32, batch=3)
    torch.testing.assert_close(extractor(images)[2:], extractor(images[2:]), atol=1e-5, rtol=1e-5)


def test_bfloat16_is_near(weights: Path) -> None:
    exact = Extractor(SPEC, weights)(pictures(32))
    rough = Extractor(SPEC, weights, precision="bfloat16")(pictures(32))
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert (rough - exact).norm() / exact.norm() < 0.03


def test_unknown_block_size_and_norm(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(InputError, match=r"no block 6[\s\S]*0 to 5"):
        Extractor(dataclasses.replace(SPEC, block=6), weights)
    extractor = Extractor(SPEC, weights)
    assert extractor.grid(48) == (3, 3)
    with pytest.raises(InputError, match=r"size 40[\s\S]*such as 32"):
        extractor.grid(40)
    pooled = dataclasses.replace(SPEC, model="test_vit4", norm=True)  # its norm follows the pooling
    with pytest.raises(InputError, match="no final LayerNorm"):
        Extractor(pooled, make(pooled, tmp_path))


@pytest.mark.parametrize("name", ["no_such_vit", "test_resnet"])
def test_only_vits(name: str) -> None:
    with pytest.raises(InputError, match=name):
        create_vit(name)


def test_random_weights_follow_the_seed(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    digests = []
    for i, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"{i}.safetensors"
        fetch_weights(dataclasses.replace(SPEC, weights=WeightsSpec("random", seed=seed)), out)
        digests.append(sha256_file(out))
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("form", ["safetensors", "torch", "nested", "authors"])
def test_file_source(tmp_path: Path, weights: Path, form: str) -> None:
    state = load_file(weights)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file({**state, "head.weight": torch.zeros(3, 64), "head.bias": torch.zeros(3)}, path)
    elif form == "authors":  # DINOv2's own checkpoints hold the mask token of their training as well
        torch.save({**state, "mask_token": torch.zeros(1, 64)}, path)
    else:
        torch.save({"state_dict": state} if form == "nested" else state, path)
    spec = dataclasses.replace(SPEC, weights=WeightsSpec("file", path=str(path), sha256=sha256_file(path)))
    fetch_weights(spec, tmp_path / "out.safetensors")
    result = load_file(tmp_path / "out.safetensors")
    assert result.keys() == state.keys()
    assert all(torch.equal(result[name], state[name]) for name in state)


def test_file_source_refuses(tmp_path: Path, weights: Path) -> None:
    less, bad = tmp_path / "less.safetensors", tmp_path / "bad.safetensors"
    save_file({name: own for name, own in load_file(weights).items() if name != "norm.bias"}, less)
    bad.write_bytes(b"bad")
    for path, sha256, message in (
        (tmp_path / "nowhere.pth", None, r"does not exist[\s\S]*nowhere"),
        (weights, "0" * 64, "wrong SHA-256"),
        (less, None, r"do not fit[\s\S]*norm\.bias"),
        (bad, None, "cannot read the weights"),
    ):
        source = WeightsSpec("file", path=str(path), sha256=sha256)
        with pytest.raises(InputError, match=message):
            fetch_weights(dataclasses.replace(SPEC, weights=source), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_hub_source(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(weights)

    monkeypatch.setattr(module, "hf_hub_download", download)
    fetch_weights(dataclasses.replace(SPEC, weights=WeightsSpec("hub")), tmp_path / "out.safetensors")
    assert asked == [("timm/test_vit.r160_in1k", "model.safetensors")]
    assert torch.equal(load_file(tmp_path / "out.safetensors")["pos_embed"], load_file(weights)["pos_embed"])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("test_vit", r"cannot download[\s\S]*name not known\n[\s\S]*check the network"),
        ("vit_small_patch16_18x2_224", "no pretrained weights"),
    ],
)
def test_weights_that_the_hub_does_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, message: str
) -> None:
    def download(*_args: str) -> str:
        raise ConnectionError("name not known\nlong trace")

    monkeypatch.setattr(module, "hf_hub_download", download)
    spec = dataclasses.replace(SPEC, model=model, weights=WeightsSpec("hub"))
    with pytest.raises(InputError, match=message):
        fetch_weights(spec, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ProvenanceError, match=r"another model[\s\S]*test_vit2[\s\S]*test_vit"):
        load_vit("test_vit2", weights)
    path = tmp_path / "w.safetensors"
    for content in (None, weights.read_bytes()[:-100]):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ProvenanceError, match=r"cannot read the weights[\s\S]*snakemake"):
            load_vit("test_vit", path)
