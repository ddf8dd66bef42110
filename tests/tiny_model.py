"""A latent diffusion model small enough to compile in seconds, with every kind of layer the real one has."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel, VQModel


def save_tiny_model(folder: Path) -> None:
    """Save it in diffusers layout, as diffusers itself does. Latent 3x8x8, image 3x16x16."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        norm_num_groups=32,
    )
    vqvae = VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=3,
        sample_size=16,
        num_vq_embeddings=64,
        scaling_factor=0.5,
    )
    torch.nn.init.normal_(vqvae.quantize.embedding.weight)
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
        clip_sample=False,
    )
    LDMPipeline(vqvae=vqvae, unet=unet, scheduler=scheduler).save_pretrained(folder)
