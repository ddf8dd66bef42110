"""The networks, by diffusers, as they are compiled: built under `FakeTensorMode`, where parameters have shapes and no
storage. What they are compared with is in `eager`.

    unet:    (input_0 latent [1,C,H,W], input_1 timestep [1]) -> output_0 noise prediction [1,C,H,W]
             for UNet2DConditionModel also input_2 text context [1,77,D], and where it is conditioned on text and size
             (Stable Diffusion XL) input_3 pooled text [1,P], input_4 size, crop and target size in pixels [1,6]
    decoder: (input_0 latent [1,C,H,W]) -> output_0 image [1,3,H',W'] in [-1, 1]
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.models.autoencoders.vq_model import VQModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ldmc.compiler.checkpoint import Checkpoint
from ldmc.compiler.config_keys import KEYS, bookkeeping, check_keys
from ldmc.compiler.placeholder import Init, layer_inits
from ldmc.compiler.quantiser import NearestCode
from ldmc.errors import ModelError
from ldmc.ir import TensorSpec

TEXT_TOKENS = 77  # length of the text context that every CLIP-conditioned UNet is run with
SIZES = 6  # height and width, top and left of the crop, target height and width: diffusers' `add_time_ids`


# Blocks that lower for every target. The others fail in diffusers' own forward, or hold constants no checkpoint has.
_BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D")
_TEXT_BLOCKS = (*_BLOCKS[:3], "CrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D")
_DECODER_BLOCKS = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")


class UnetComponent(nn.Module):
    """The denoiser alone: positional tensors in, one tensor out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        conditions = dict(zip(("text_embeds", "time_ids"), inputs[3:]))
        added = {"added_cond_kwargs": conditions} if conditions else {}
        output: torch.Tensor = self.net(*inputs[:3], return_dict=False, **added)[0]
        return output


@dataclass(frozen=True)
class LatentScaling:
    """How latents as the UNet sees them become what the decoder was trained on: z * std / scale + mean + shift.

    mean, std: a number for each channel; () where the model does not normalise its latents by channel.
    """

    scale: float
    shift: float = 0.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def undone(self, latent: torch.Tensor) -> torch.Tensor:
        """`latent`, [N, C, H, W], as the decoder takes it."""
        if self.std:
            latent = latent * _by_channel(latent, self.std)
        if self.scale != 1.0:
            latent = latent / self.scale
        if self.mean:
            latent = latent + _by_channel(latent, self.mean)
        if self.shift != 0.0:
            latent = latent + self.shift
        return latent


class DecoderComponent(nn.Module):
    """Latent as the UNet sees it -> image: undo the scaling, quantise (VQ), post_quant_conv, decoder."""

    def __init__(self, net: Any, scaling: LatentScaling) -> None:
        super().__init__()
        self.net = net
        self.scaling = scaling

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.net.decode(self.scaling.undone(latent), return_dict=False)[0]
        return output


@dataclass(frozen=True)
class Skeleton:
    """A component's network without weights.

    module, mode: see `ldmc.ir.Network`. expected: every parameter of the whole checkpoint file, key -> shape
    (a decoder's checkpoint also holds the encoder). inits: how each would be initialised.
    fp32_modules: see `ldmc.ir.Network`.
    """

    module: nn.Module
    mode: FakeTensorMode
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    expected: Mapping[str, tuple[int, ...]]
    inits: Mapping[str, Init]
    fp32_modules: tuple[str, ...] = ()


def build_unet(checkpoint: Checkpoint) -> Skeleton:
    """The UNet of `checkpoint`, without weights.

    Raises:
        ModelError: its configuration asks for a conditioning that is not implemented, or diffusers rejects it.
    """
    check_conditioning(checkpoint.unet)
    text = is_text_conditioned(checkpoint.unet)
    _check_blocks("unet", checkpoint.unet, _TEXT_BLOCKS if text else _BLOCKS)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        net = construct(checkpoint.unet)
    size = _sides(net.config.sample_size)
    inputs = [
        TensorSpec("input_0", "float32", (1, net.config.in_channels, *size)),
        TensorSpec("input_1", "int64", (1,)),
    ]
    if text:
        inputs.append(TensorSpec("input_2", "float32", (1, TEXT_TOKENS, _context_width(net.config))))
    if net.config.get("addition_embed_type") == "text_time":
        inputs.append(TensorSpec("input_3", "float32", (1, _pooled_width(net.config))))
        inputs.append(TensorSpec("input_4", "float32", (1, SIZES)))
    output = TensorSpec("output_0", "float32", (1, net.config.out_channels, *size))
    return Skeleton(UnetComponent(net), mode, tuple(inputs), (output,), _shapes(net), layer_inits(net))


def is_text_conditioned(unet: Mapping[str, Any]) -> bool:
    """Whether a UNet of this configuration takes a text context."""
    return bool(unet["_class_name"] == "UNet2DConditionModel")


def check_conditioning(unet: Mapping[str, Any]) -> None:
    """Hold a UNet's configuration to the conditionings that are implemented: text, and text with sizes.

    Raises:
        ModelError: it asks for another.
    """
    name = unet["_class_name"]
    check_keys("unet/config.json", unet, KEYS[name], name)
    if is_text_conditioned(unet):
        _context_width(unet)
    if unet.get("addition_embed_type") == "text_time":
        _pooled_width(unet)


def _check_blocks(folder: str, config: Mapping[str, Any], down: tuple[str, ...]) -> None:
    """Hold a network's blocks to those that lower, each named by its way down; diffusers' defaults are among them."""
    up = [name.replace("Downsample", "Upsample").replace("Down", "Up").replace("Encoder", "Decoder") for name in down]
    for key, allowed in (("down_block_types", down), ("up_block_types", tuple(up))):
        for name in config.get(key) or ():
            if name not in allowed:
                raise ModelError(
                    f"{folder}/config.json: {key} has {name!r}, which {config['_class_name']} cannot be compiled with",
                    fix=f"supported are {', '.join(allowed)}",
                )


def _context_width(unet: Mapping[str, Any]) -> int:
    """Width of the text context: one for all blocks. diffusers' default is 1280."""
    given = unet.get("cross_attention_dim", 1280)
    widths = set(given) if isinstance(given, (list, tuple)) else {given}
    width = next(iter(widths), None)
    if len(widths) != 1 or type(width) is not int or width < 1:
        raise ModelError(
            f"unet/config.json: cross_attention_dim is {given!r}: blocks with text contexts of different widths are "
            "not supported",
            fix="supported is one width for all blocks",
        )
    return width


def _pooled_width(unet: Mapping[str, Any]) -> int:
    """Width of the pooled text: what `projection_class_embeddings_input_dim` has beside the sinusoids of the sizes."""
    whole, each = unet.get("projection_class_embeddings_input_dim"), unet.get("addition_time_embed_dim")
    width = whole - SIZES * each if type(whole) is int and type(each) is int and each > 0 else 0
    if width < 1:
        raise ModelError(
            f"unet/config.json: projection_class_embeddings_input_dim is {whole!r} and addition_time_embed_dim is "
            f"{each!r}, which leaves no width for the pooled text beside {SIZES} sizes",
            fix="check config.json: Stable Diffusion XL has 2816 and 256",
        )
    return width


def build_decoder(checkpoint: Checkpoint) -> Skeleton:
    """The decoder of `checkpoint`, without weights and without its encoder.

    Raises:
        ModelError: its configuration has blocks that do not lower, or diffusers rejects it.
    """
    _check_blocks(checkpoint.decoder_folder, checkpoint.decoder, _DECODER_BLOCKS)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        net = construct(checkpoint.decoder)
    expected, inits = _shapes(net), layer_inits(net)
    if isinstance(net, VQModel):
        net.quantize = NearestCode(net.quantize.embedding)
    for unused in ("encoder", "quant_conv"):
        setattr(net, unused, None)
    side = [s // 2 ** (len(net.config.block_out_channels) - 1) for s in _image_sides(checkpoint, net)]
    latent = TensorSpec("input_0", "float32", (1, net.config.latent_channels, *side))
    image = TensorSpec("output_0", "float32", (1, net.config.out_channels, *_image_sides(checkpoint, net)))
    module = DecoderComponent(net, latent_scaling(checkpoint.decoder))
    # diffusers' pipelines decode in fp32 where the configuration says that the decoder overflows (SDXL's does).
    fp32_modules = ("decoder", "post_quant_conv") if checkpoint.decoder.get("force_upcast") is True else ()
    return Skeleton(module, mode, (latent,), (image,), expected, inits, fp32_modules)


def latent_scaling(config: Mapping[str, Any]) -> LatentScaling:
    """What the decoder of this configuration undoes.

    A VQModel configuration without `scaling_factor` is older than the key, and its latents are not scaled
    (CompVis' first stage has none); diffusers would fill in Stable Diffusion's 0.18215 there.
    """
    default = 1.0 if config["_class_name"] == "VQModel" else 0.18215
    return LatentScaling(
        float(config.get("scaling_factor", default)),
        float(config.get("shift_factor") or 0.0),
        tuple(map(float, config.get("latents_mean") or ())),
        tuple(map(float, config.get("latents_std") or ())),
    )


def _by_channel(latent: torch.Tensor, values: tuple[float, ...]) -> torch.Tensor:
    return latent.new_tensor(values).view(1, -1, 1, 1)


def construct(config: Mapping[str, Any]) -> Any:
    """The network of diffusers that `config`, a parsed config.json, describes.

    Raises:
        ModelError: the installed diffusers cannot build it, or does not know one of its keys.
    """
    cls = getattr(diffusers, config["_class_name"])
    known = {key: value for key, value in config.items() if not bookkeeping(key)}
    harmless = KEYS[config["_class_name"]].harmless
    for key in known.keys() - inspect.signature(cls.__init__).parameters.keys() - harmless.keys():
        raise ModelError(
            f"{config['_class_name']}: diffusers {diffusers.__version__} does not know the key {key}",
            fix="install a diffusers that does: pip install -U diffusers",
        )
    try:
        return cls.from_config(known).eval()
    except Exception as error:  # noqa: BLE001  diffusers and torch raise what comes of a value, asserts included
        raise ModelError(
            f"{config['_class_name']}: diffusers cannot build this configuration: {error}",
            fix="check config.json",
        ) from error


def _shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    # keep_vars: detaching hundreds of fake tensors takes longer than building them
    return {key: tuple(value.shape) for key, value in net.state_dict(keep_vars=True).items()}


def _sides(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _image_sides(checkpoint: Checkpoint, net: Any) -> list[int]:
    """Height and width of the image: the UNet's latent, enlarged by the decoder."""
    factor = 2 ** (len(net.config.block_out_channels) - 1)
    return [side * factor for side in _sides(checkpoint.unet["sample_size"])]
