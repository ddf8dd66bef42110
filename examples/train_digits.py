"""Train the small latent diffusion model that the examples and tests compile.

Everything is trained from scratch on the 8x8 handwritten digits that scikit-learn ships, on one CPU
thread and from fixed seeds, so that two runs on one machine write the same weights. The result is a
diffusers `LDMPipeline`: a VQ autoencoder (32x32x3 images, 4x4x3 latents), a UNet trained to predict the
noise in its latents, and a DDIM scheduler. `TRAINING.json` beside the weights records the run.

    python examples/train_digits.py [--output DIR] [--quick]
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import sklearn
import torch
from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel, VQModel
from judge_digits import judge, upsample
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch.nn import functional as F

CURVE_POINTS = 50


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of a run."""

    seed: int = 20240
    sample_seed: int = 977
    samples: int = 200
    sample_steps: int = 20
    codes: int = 512
    plain_steps: int = 400
    quantised_steps: int = 700
    autoencoder_batch: int = 16
    autoencoder_rate: float = 2e-3
    codebook_weight: float = 0.1
    unet_steps: int = 7000
    unet_batch: int = 64
    unet_rate: float = 1e-3
    unet_matrix_rate: float = 0.02
    unet_warmup: int = 50
    ema_decay: float = 0.998


QUICK = Settings(samples=8, sample_steps=2, plain_steps=3, quantised_steps=3, unet_steps=4)


class Curve:
    """A loss curve: prints a line now and then, keeps the mean of each of CURVE_POINTS stretches."""

    def __init__(self, name: str, steps: int) -> None:
        self.name = name
        self.steps = steps
        self.stretch = max(1, steps // CURVE_POINTS)
        self.pending: list[float] = []
        self.points: list[list[float]] = []

    def add(self, step: int, loss: float) -> None:
        self.pending.append(loss)
        if (step + 1) % self.stretch and step + 1 < self.steps:
            return
        self.points.append([step + 1, round(sum(self.pending) / len(self.pending), 6)])
        self.pending.clear()
        if len(self.points) % 10 == 1 or step + 1 == self.steps:
            print(f"{self.name}: step {step + 1}/{self.steps}, loss {self.points[-1][1]:.5f}", flush=True)


def load_images() -> torch.Tensor:
    """The digits as smooth 32x32 RGB images in -1..1, shape (1797, 3, 32, 32)."""
    images = torch.from_numpy(upsample(load_digits().images))
    return (images.permute(0, 3, 1, 2).float() / 127.5 - 1.0).contiguous()


def new_autoencoder(codes: int) -> VQModel:
    """Three downsamplings and few channels: the digits are easy, the UNet should carry the weight."""
    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 32, 64),
        norm_num_groups=8,
        latent_channels=3,
        vq_embed_dim=3,
        num_vq_embeddings=codes,
        sample_size=32,
    )


def new_unet() -> UNet2DModel:
    return UNet2DModel(
        sample_size=4,
        in_channels=3,
        out_channels=3,
        block_out_channels=(64, 64),
        layers_per_block=1,
        norm_num_groups=32,
        attention_head_dim=32,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )


def new_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
        clip_sample=False,
    )


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless batches of indices; every index comes once before any comes again."""
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count - count % size].split(size)


def cosine_rate(step: int, steps: int, warmup: int) -> float:
    """The factor on the learning rate: a linear rise, then half a cosine down to nearly nothing."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.no_grad()
def encode_all(vqvae: VQModel, images: torch.Tensor) -> torch.Tensor:
    return torch.cat([vqvae.encode(part).latents for part in images.split(128)])


def start_codebook(vqvae: VQModel, images: torch.Tensor, seed: int) -> None:
    """Put the codes where the encoder's outputs are: codes started at random mostly stay unused."""
    vectors = encode_all(vqvae, images[::2]).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    clusters = KMeans(vqvae.config.num_vq_embeddings, n_init=1, max_iter=30, random_state=seed).fit(vectors)
    vqvae.quantize.embedding.weight.data.copy_(torch.from_numpy(clusters.cluster_centers_))


def train_autoencoder(
    vqvae: VQModel, images: torch.Tensor, settings: Settings, generator: torch.Generator
) -> list[list[float]]:
    """First without quantising, so that there are outputs to place codes on, then with the codebook."""
    steps = settings.plain_steps + settings.quantised_steps
    optimizer = torch.optim.AdamW(vqvae.parameters(), lr=settings.autoencoder_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_rate(step, steps, 20))
    indices = batches(len(images), settings.autoencoder_batch, generator)
    curve = Curve("autoencoder", steps)
    for step in range(steps):
        if step == settings.plain_steps:
            start_codebook(vqvae, images, settings.seed)
        batch = images[next(indices)]
        latents = vqvae.encode(batch).latents
        decoded = vqvae.decode(latents, force_not_quantize=step < settings.plain_steps)
        error = F.mse_loss(decoded.sample, batch)
        optimizer.zero_grad()
        (error + settings.codebook_weight * decoded.commit_loss.mean()).backward()
        torch.nn.utils.clip_grad_norm_(vqvae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        curve.add(step, error.item())
    return curve.points


@torch.no_grad()
def normalise_latents(vqvae: VQModel, images: torch.Tensor) -> torch.Tensor:
    """Centre the latent space, record its scale, and return the latents the UNet is to learn.

    Diffusion starts from noise of mean nought and variance one. The pipeline can undo a scale
    (`scaling_factor`) but not a shift, so the shift goes into the convolutions around the codebook; the
    autoencoder computes the same function as before.
    """
    latents = encode_all(vqvae, images)
    mean = latents.mean(dim=(0, 2, 3))
    vqvae.quant_conv.bias.sub_(mean)
    vqvae.quantize.embedding.weight.sub_(mean)
    vqvae.post_quant_conv.bias.add_(vqvae.post_quant_conv.weight[:, :, 0, 0] @ mean)
    latents = latents - mean[:, None, None]
    vqvae.register_to_config(scaling_factor=round(1.0 / latents.std().item(), 6))
    return latents * vqvae.config.scaling_factor


@torch.no_grad()
def measure_autoencoder(vqvae: VQModel, images: torch.Tensor) -> dict[str, float]:
    """Reconstruction error over all images, in the -1..1 range, and how the codebook is used."""
    latents = encode_all(vqvae, images)
    decoded = torch.cat([vqvae.decode(part).sample for part in latents.split(128)])
    codes = torch.cat([vqvae.quantize(part)[2][2] for part in latents.split(128)])
    share = torch.bincount(codes, minlength=vqvae.config.num_vq_embeddings).double() / len(codes)
    return {
        "reconstruction_mse": round(F.mse_loss(decoded, images).item(), 6),
        "codes_used": int(torch.count_nonzero(share)),
        "code_perplexity": round(float(torch.exp(-torch.special.xlogy(share, share).sum())), 2),
    }


def noise_weights(scheduler: DDIMScheduler) -> torch.Tensor:
    """How much each time step counts in the loss: the square root of its noise-to-signal ratio.

    Unweighted, the loss is nearly all from the last, almost clean steps, where the error matters least
    (the decoder's codebook removes small noise). The first steps, which settle what digit it becomes,
    then stay less exact than a plain linear denoiser. So weighted, all steps count about equally; the
    bound keeps the few most noisy steps from taking over in turn.
    """
    kept = scheduler.alphas_cumprod
    return ((1.0 - kept) / kept).sqrt().clamp(max=10.0)


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest matrix with orthonormal rows or columns, by five Newton-Schulz iterations."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised steps (Jordan et al., 2024), for matrices and convolution kernels.

    torch's own Muon does not take convolution kernels.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                average = state.setdefault("average", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1.0 - group["momentum"])
                ahead = weight.grad.lerp(average, group["momentum"]).flatten(1)
                scale = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
                weight.sub_(orthogonalised(ahead).view_as(weight), alpha=group["lr"] * scale)


def unet_optimizers(unet: UNet2DModel, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the weights inside the network, Adam for its two ends, the biases and the norms."""
    ends = ("conv_in.", "conv_out.")
    inner = [p for name, p in unet.named_parameters() if p.ndim > 1 and not name.startswith(ends)]
    chosen = {id(p) for p in inner}
    others = [p for p in unet.parameters() if id(p) not in chosen]
    return [
        Muon(inner, lr=settings.unet_matrix_rate),
        torch.optim.AdamW(others, lr=settings.unet_rate, weight_decay=0.0, fused=True),
    ]


def train_unet(
    unet: UNet2DModel, latents: torch.Tensor, settings: Settings, generator: torch.Generator
) -> tuple[UNet2DModel, list[list[float]]]:
    """Learn to predict the noise; returns the running average of the weights, which samples better."""
    scheduler = new_scheduler()
    weights = noise_weights(scheduler)
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizers = unet_optimizers(unet, settings)
    rate = functools.partial(cosine_rate, steps=settings.unet_steps, warmup=settings.unet_warmup)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    indices = batches(len(latents), settings.unet_batch, generator)
    curve = Curve("unet", settings.unet_steps)
    for step in range(settings.unet_steps):
        clean = latents[next(indices)]
        noise = torch.randn(clean.shape, generator=generator)
        times = torch.randint(0, scheduler.config.num_train_timesteps, (len(clean),), generator=generator)
        predicted = unet(scheduler.add_noise(clean, noise, times), times).sample
        loss = ((predicted - noise).square().mean(dim=(1, 2, 3)) * weights[times]).mean()
        unet.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        for stepper in (*optimizers, *schedules):
            stepper.step()
        decay = min(settings.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1.0 - decay)
        curve.add(step, loss.item())
    return average, curve.points


def sample(pipeline: LDMPipeline, count: int, steps: int, seed: int) -> np.ndarray:
    """Draw uint8 images (N, 32, 32, 3) with DDIM, eta 0."""
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    images = pipeline(
        batch_size=count, generator=generator, eta=0.0, num_inference_steps=steps, output_type="np"
    ).images
    return np.rint(images * 255.0).astype(np.uint8)


def nearest_distances(images: np.ndarray, references: np.ndarray, skip_self: bool) -> np.ndarray:
    """Root-mean-square distance, in grey levels of 0..255, from each image to its nearest reference."""
    a = images[..., 0].reshape(len(images), -1).astype(np.float64)
    b = references[..., 0].reshape(len(references), -1).astype(np.float64)
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * a @ b.T
    if skip_self:
        np.fill_diagonal(squared, np.inf)
    return np.sqrt(np.maximum(squared.min(axis=1), 0.0) / a.shape[1])


def judge_pipeline(pipeline: LDMPipeline, settings: Settings) -> dict[str, Any]:
    """The judge's figures, and whether the samples are mere copies of training images."""
    drawn = sample(pipeline, settings.samples, settings.sample_steps, settings.sample_seed)
    real = upsample(load_digits().images)
    return {
        "seed": settings.sample_seed,
        "steps": settings.sample_steps,
        "judge": judge(drawn),
        "median_distance_to_nearest_training_image": round(
            float(np.median(nearest_distances(drawn, real, skip_self=False))), 3
        ),
        "median_distance_between_nearest_training_images": round(
            float(np.median(nearest_distances(real, real, skip_self=True))), 3
        ),
    }


def train(settings: Settings) -> tuple[LDMPipeline, dict[str, Any]]:
    """Both stages and the check of the result; returns the pipeline and the training record."""
    generator = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    images = load_images()
    started = time.perf_counter()
    vqvae = new_autoencoder(settings.codes)
    autoencoder_curve = train_autoencoder(vqvae, images, settings, generator)
    vqvae.eval()
    latents = normalise_latents(vqvae, images)
    autoencoder_done = time.perf_counter()
    unet, unet_curve = train_unet(new_unet(), latents, settings, generator)
    unet_done = time.perf_counter()
    pipeline = LDMPipeline(vqvae=vqvae, unet=unet.eval(), scheduler=new_scheduler())
    record = {
        "settings": asdict(settings),
        "versions": versions(),
        "seconds": {
            "autoencoder": round(autoencoder_done - started, 1),
            "unet": round(unet_done - autoencoder_done, 1),
        },
        "parameters": {"vqvae": vqvae.num_parameters(), "unet": unet.num_parameters()},
        "scaling_factor": vqvae.config.scaling_factor,
        "autoencoder": {**measure_autoencoder(vqvae, images), "loss_curve": autoencoder_curve},
        "unet": {"loss_curve": unet_curve},
        "samples": judge_pipeline(pipeline, settings),
    }
    return pipeline, record


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
    }


def write_record(record: dict[str, Any], path: Path) -> None:
    """Indented JSON, with each point of a loss curve on one line."""
    curves: dict[str, str] = {}
    record = copy.deepcopy(record)
    for stage in ("autoencoder", "unet"):
        points = ",\n      ".join(json.dumps(point) for point in record[stage]["loss_curve"])
        curves[f'"{stage} curve"'] = f"[\n      {points}\n    ]"
        record[stage]["loss_curve"] = f"{stage} curve"
    text = json.dumps(record, indent=2)
    for mark, curve in curves.items():
        text = text.replace(mark, curve)
    path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the digits latent diffusion model.")
    default = Path(__file__).resolve().parent / "digits-ldm"
    parser.add_argument("--output", type=Path, default=default, help="where the model goes")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to try the script out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    pipeline, record = train(QUICK if arguments.quick else Settings())
    pipeline.save_pretrained(arguments.output)
    write_record(record, arguments.output / "TRAINING.json")
    print(json.dumps(record["samples"], indent=2))


if __name__ == "__main__":
    main()
