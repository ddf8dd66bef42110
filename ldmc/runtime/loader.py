"""Opens a bundle and draws with it: noise -> the sampler's steps with the UNet -> decoder -> picture."""

import os
import time

import numpy as np

from . import backends
from .checks.inventory import VERIFICATION_FAILED
from .checks.opening import Vouched
from .component import Component
from .errors import BundleProblem, InputProblem
from .manifest import check_files, read_manifest
from .residency import Components
from .schedulers import sampler_of

MAX_SEED = 2 ** 32 - 1
MOST_THREADS_PER_CORE = 4  # each has a stack and spins: thousands of them take a machine down


def check_threads(threads):
    """Raises InputProblem for a number of threads that no call here could use; None is the engine's own choice."""
    if threads is None:
        return
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputProblem("threads is %r, expected an integer from 1" % (threads,))
    cores = os.cpu_count() or 1
    if threads > MOST_THREADS_PER_CORE * cores:
        raise InputProblem("threads is %d; this machine has %d core%s" % (threads, cores, "" if cores == 1 else "s"),
                           "use at most %d; one per core is usual" % (MOST_THREADS_PER_CORE * cores))


def load(path, verify=False, threads=None, cache=True, sources=False, trust=False, cache_folder=None):
    """Opens a bundle.

    The SHA-256 of every file that is read is checked at the first load, and of those that have changed at later ones;
    what was checked is kept in the user's cache folder.

    Args:
        path: the folder NAME.TARGET.ldmc.
        verify: read every file of the bundle again, the saved optimised graph too, and refuse files that the manifest
            does not list.
        threads: threads of one call; None leaves it to the engine (one per core).
        cache: keep the engine's optimised graph next to the model (twice the weights on disk), for quick lean loads.
        sources: run the ONNX graphs that engines are built from, on the CPU, instead of the engines.
        trust: let parts run that are machine code or scripts (engines, TorchScript, AOTInductor) although they were not
            made here. Such a part can do whatever the user can.
        cache_folder: where to keep what was checked; None for `$XDG_CACHE_HOME/ldmc`, or `~/.cache/ldmc`.
    Returns: Pipeline.
    Raises: BundleProblem, with `.message`, `.fix` and `.exit_code`.
    """
    check_threads(threads)
    manifest = read_manifest(path)
    check_files(manifest.root, manifest, VERIFICATION_FAILED if verify else 1)
    if sources:
        manifest = manifest.of_sources()
    sampler_of(manifest.scheduler)  # refuses an unsupported scheduler before the slow part
    _check_components(manifest)
    remarks = []
    vouched = Vouched(manifest, trust, cache_folder)
    vouched.require_all()
    backends.check_bundle(manifest)
    vouched.check(verify, remarks)
    if manifest.placeholder_weights:
        remarks.append("the weights are random placeholders: every picture is noise")

    def open_one(name):
        entry = manifest.components[name]
        keep_buffers = name == "unet"  # it is called in a loop
        options = backends.OpenOptions(threads, cache, verify, keep_buffers, vouched)
        found = []
        component = Component(entry, backends.open_component(manifest, entry, options, found))
        remarks.extend(remark for remark in found if remark not in remarks)
        return component

    one_at_a_time = manifest.load == "one-at-a-time"
    components = Components(open_one, one_at_a_time)
    try:
        # Each is opened here once, so that what is wrong with one is known before an hour of denoising; the one that
        # is needed first comes last, and stays.
        for name in ("decoder", "unet") if one_at_a_time else ("unet", "decoder"):
            components.open(name)
    except BaseException:
        components.close()
        raise
    return Pipeline(manifest, components, remarks)


class Pipeline(object):
    """An open bundle. Close it, or use it in a `with` statement, to give its memory back.

    Safe to call from several threads: calls of components take turns, so that pictures drawn at the same time are bit
    for bit those drawn one after the other, and take as long. To draw in parallel, load the bundle once per thread.

    Attributes: `manifest` (Manifest); `remarks` (list of str): what the user should know but nothing fails on.
    """

    def __init__(self, manifest, components, remarks):
        self.manifest = manifest
        self.remarks = remarks
        self._components = components

    @property
    def latent_shape(self):
        """(channels, height, width) of one latent."""
        return self.manifest.components["unet"].inputs[0].shape[1:]

    def unet(self, latent, t):
        """One UNet call.

        Args:
            latent: float, [N, channels, height, width], any N.
            t: timestep: an integer, or integers of shape [N].
        Returns: float32 of the latent's shape.
        """
        latent = self._latents(latent)
        t = np.asarray(t)
        if t.dtype.kind not in "iu":
            raise InputProblem("t is %s, expected an integer or an array of integers" % t.dtype)
        if t.shape not in ((), (1,), (len(latent),)):
            message = "t is of shape %s, expected one timestep or [%d], one for each latent" % (
                list(t.shape), len(latent))
            raise InputProblem(message)
        return self._components.run("unet", [latent, np.broadcast_to(t, (len(latent),))])

    def decode(self, latent):
        """Pictures of latents.

        Args: latent: float, [N, channels, height, width], any N.
        Returns: float32 [N, 3, H, W], about -1 to 1.
        """
        return self._components.run("decoder", [self._latents(latent)])

    def generate(self, seed=0, steps=20, batch=1, eta=0.0, latent=None, on_step=None):
        """Draws. See `generate_timed`. Returns: uint8, H x W x 3; for a batch over 1, N x H x W x 3."""
        return self.generate_timed(seed, steps, batch, eta, latent, on_step)[0]

    def generate_timed(self, seed=0, steps=20, batch=1, eta=0.0, latent=None, on_step=None):
        """Draws, and says how long it took.

        Args:
            seed: picture k of a batch is what seed + k draws alone. The noise is numpy's RandomState(seed), so it
                is the same for every numpy and Python; the picture is the same up to the engine's rounding.
            steps: of the sampler, 1 to the scheduler's num_train_timesteps.
            batch: pictures to draw.
            eta: 0 to 1: how much fresh noise each step adds; only DDIM takes one over 0.
            latent: float, [batch, channels, height, width]: start from this instead of the seed's first noise.
            on_step: called as on_step(done, calls) after each call of the UNet; a sampler may need more than steps.
        Returns: (image, seconds): uint8, H x W x 3, or N x H x W x 3 for a batch over 1; a dict of
            denoise_seconds, decode_seconds, total_seconds; open_seconds: how much of these went into opening
            components, where they are loaded one at a time; start_monotonic_seconds, end_monotonic_seconds: when it
            was, by time.monotonic(), which all processes of a Linux machine share. Waiting for calls of other
            threads counts.
        Raises: InputProblem for an argument that does not fit; BundleProblem where a component fails.
        """
        sampler = sampler_of(self.manifest.scheduler)
        timesteps = sampler.timesteps(steps)
        sampler.check_range(timesteps)
        sources = _noise_sources(seed, batch)
        _check_eta(eta, sampler)
        sample = self._draw(sources)
        if latent is not None:
            sample = self._latents(latent).astype(np.float32)
            if len(sample) != batch:
                raise InputProblem("latent holds %d latents and batch is %d" % (len(sample), batch))
        sample = sampler.start(sample)
        opened_seconds = self._components.open_seconds
        start = time.monotonic()
        for done, t in enumerate(timesteps, 1):
            noise = self._draw(sources) if eta > 0 else None
            sample = sampler.step(self.unet(sampler.network_input(sample), int(t)), t, sample, eta, noise)
            if on_step is not None:
                on_step(done, len(timesteps))
        denoised = time.monotonic()
        images = _to_uint8(self.decode(sample))
        end = time.monotonic()
        seconds = {"denoise_seconds": denoised - start, "decode_seconds": end - denoised, "total_seconds": end - start,
                   "open_seconds": self._components.open_seconds - opened_seconds,
                   "start_monotonic_seconds": start, "end_monotonic_seconds": end}
        return (images[0] if batch == 1 else images), seconds

    def close(self):
        """Gives the engine's memory back, once the call at work in another thread has returned. The pipeline cannot be
        used after: a thread that is drawing gets a BundleProblem at its next call of a component."""
        self._components.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _draw(self, sources):
        return np.stack([source.standard_normal(self.latent_shape) for source in sources]).astype(np.float32)

    def _latents(self, latent):
        latent = np.asarray(latent)
        if latent.dtype.kind != "f":
            raise InputProblem("the latent is %s, expected floating point" % latent.dtype)
        if latent.ndim != 4 or latent.shape[1:] != self.latent_shape or len(latent) == 0:
            message = "the latent is of shape %s, expected [N, %s]" % (
                list(latent.shape), ", ".join(str(size) for size in self.latent_shape))
            raise InputProblem(message)
        return latent


def _noise_sources(seed, batch):
    for name, value, least in (("seed", seed, 0), ("batch", batch, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputProblem("%s is %r, expected an integer from %d" % (name, value, least))
    if seed + batch - 1 > MAX_SEED:
        raise InputProblem("seed %d and batch %d reach over the largest seed, %d" % (seed, batch, MAX_SEED))
    return [np.random.RandomState(int(seed) + k) for k in range(batch)]


def _check_eta(eta, sampler):
    if isinstance(eta, bool) or not isinstance(eta, (int, float)) or not 0 <= eta <= 1:
        raise InputProblem("eta is %r, expected a number from 0 to 1" % (eta,))
    if eta > 0 and not sampler.takes_eta:
        raise InputProblem("eta is %g; the bundle's sampler, %s, adds no noise" % (eta, sampler.name), "leave eta out")


def _to_uint8(images):
    """float [N, C, H, W] in -1..1 -> uint8 [N, H, W, 3]; one channel becomes grey."""
    pixels = np.rint(np.clip((images + 1) * 127.5, 0, 255)).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels if pixels.shape[3] == 3 else np.repeat(pixels, 3, axis=3))


def _check_components(manifest):
    for name, inputs in (("unet", 2), ("decoder", 1)):
        entry = manifest.components.get(name)
        if entry is None:
            found = ", ".join(sorted(manifest.components)) or "none"
            message = "%s has no component %s (it has: %s)" % (manifest.path, name, found)
            raise BundleProblem(message, "build the bundle again whole")
        if len(entry.inputs) != inputs or len(entry.outputs) != 1 or len(entry.inputs[0].shape) != 4:
            found = "inputs %s and outputs %s" % (_listed(entry.inputs), _listed(entry.outputs))
            expected = "%d inputs, the first of 4 axes, and 1 output" % inputs
            message = "component %s of %s has %s; expected %s" % (name, manifest.root, found, expected)
            raise BundleProblem(message, "build the bundle again")
        sizes = {tensor.shape[0] for tensor in entry.inputs + entry.outputs}
        if len(sizes) > 1:
            message = "component %s of %s has batches of different sizes: inputs %s, outputs %s" % (
                name, manifest.root, _listed(entry.inputs), _listed(entry.outputs))
            raise BundleProblem(message, "build the bundle again")
    latent, decoded = manifest.components["unet"].outputs[0], manifest.components["decoder"].inputs[0]
    if latent.shape[1:] != decoded.shape[1:]:
        message = "the unet of %s gives %s and its decoder takes %s" % (manifest.root, latent, decoded)
        raise BundleProblem(message, "build the bundle again from one model")


def _listed(tensors):
    return "(%s)" % ", ".join(str(tensor) for tensor in tensors)
