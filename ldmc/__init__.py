"""ldmc: an ahead-of-time compiler for latent diffusion models on edge devices."""

__version__ = "0.1.0"
