"""The same checkpoint written in every layout that diffusers has ever saved, and altered copies of one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ldmc.ir import WeightSource

State = dict[str, torch.Tensor]

STEM = "diffusion_pytorch_model"
COMPONENTS = ("unet", "vqvae")
_OLD_ATTENTION = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def whole(weights: WeightSource, key: str) -> Any:
    """Parameter `key` as one flat array."""
    return np.concatenate(list(weights.chunks(key)))


def copy_model(model: Path, folder: Path) -> Path:
    """A copy of `model` that may be altered."""
    shutil.copytree(model, folder)
    return folder


def read_state(component: Path) -> State:
    """All tensors of one component folder that holds one safetensors file."""
    return load_file(component / f"{STEM}.safetensors")


def replace_state(component: Path, state: State) -> None:
    """Give the component other tensors."""
    save_file(state, component / f"{STEM}.safetensors")


def drop_weights(component: Path) -> None:
    """Leave the configuration alone."""
    for file in component.glob(f"{STEM}*"):
        file.unlink()


def edit_json(file: Path, changes: Mapping[str, Any], drop: tuple[str, ...] = ()) -> None:
    """Change some keys of a JSON file and drop others."""
    data = json.loads(file.read_text())
    data.update(changes)
    for key in drop:
        data.pop(key, None)
    file.write_text(json.dumps(data))


def old_keys(state: State) -> State:
    """Attention keys as diffusers before 0.12 wrote them."""
    renamed = {}
    for key, tensor in state.items():
        for new, old in _OLD_ATTENTION.items():
            key = key.replace(new, old)
        renamed[key] = tensor
    return renamed


def write_safetensors(component: Path, state: State) -> None:
    """One file."""
    save_file(state, component / f"{STEM}.safetensors")


def write_shards(component: Path, state: State, variant: str = "") -> None:
    """Three safetensors files and their index."""
    dot = f".{variant}" if variant else ""
    _write_sharded(
        component,
        state,
        f"{STEM}-0000%d-of-00003{dot}.safetensors",
        f"{STEM}.safetensors.index{dot}.json",
        save_file,
    )


def write_bin_shards(component: Path, state: State) -> None:
    """Three pickles and their index."""
    _write_sharded(component, state, f"{STEM}-0000%d-of-00003.bin", f"{STEM}.bin.index.json", torch.save)


def write_bin(component: Path, state: State) -> None:
    """A pickle in a zip archive, as torch has written it since 1.6."""
    torch.save(state, component / f"{STEM}.bin")


def write_legacy_bin(component: Path, state: State) -> None:
    """A pickle as torch before 1.6 wrote it."""
    torch.save(state, component / f"{STEM}.bin", _use_new_zipfile_serialization=False)


def write_fp16(component: Path, state: State) -> None:
    """The half-precision variant, alone."""
    save_file({key: tensor.half() for key, tensor in state.items()}, component / f"{STEM}.fp16.safetensors")


def old_model(model: Path, folder: Path) -> Path:
    """`model` as diffusers 0.0.x would have saved it: old attention keys, pickled, `timesteps` in the scheduler."""
    copy_model(model, folder)
    for name in COMPONENTS:
        state = old_keys(read_state(folder / name))
        drop_weights(folder / name)
        write_legacy_bin(folder / name, state)
    file = folder / "scheduler" / "scheduler_config.json"
    steps = json.loads(file.read_text())["num_train_timesteps"]
    edit_json(
        file,
        {"timesteps": steps, "timestep_values": None, "_diffusers_version": "0.0.4"},
        drop=(
            "num_train_timesteps",
            "steps_offset",
            "timestep_spacing",
            "prediction_type",
            "rescale_betas_zero_snr",
        ),
    )
    return folder


def _write_sharded(component: Path, state: State, shard: str, index: str, save: Any) -> None:
    keys = sorted(state)
    weight_map = {}
    for number in (1, 2, 3):
        part = {key: state[key] for key in keys[number - 1 :: 3]}
        save(part, component / (shard % number))
        weight_map.update(dict.fromkeys(part, shard % number))
    total = sum(tensor.nbytes for tensor in state.values())
    (component / index).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
