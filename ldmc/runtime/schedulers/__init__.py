"""Samplers in numpy, one class of diffusers each: how noise becomes a latent in a number of calls of the UNet.

    sampler = sampler_of(manifest.scheduler)
    timesteps = sampler.timesteps(20)                     one call of the network for each
    sample = sampler.start(noise)
    for t in timesteps:
        output = unet(sampler.network_input(sample), t)
        sample = sampler.step(output, t, sample)

The manifest's section `scheduler` names the class by `type`; its other keys are those of diffusers' configuration.
"""

from ..errors import BundleProblem
from .base import REBUILD
from .ddim import DDIM
from .euler import Euler
from .pndm import PNDM

SAMPLERS = {"ddim": DDIM, "euler": Euler, "pndm": PNDM}


def sampler_of(section):
    """A sampler for one run. section: the manifest's scheduler section; without a `type` it is DDIM's, as of old.

    Raises: BundleProblem where the section asks for something that this runtime does not implement.
    """
    name = section.get("type", "ddim")
    if not isinstance(name, str) or name not in SAMPLERS:
        message = "the scheduler is %r; this runtime implements %s" % (name, ", ".join(sorted(SAMPLERS)))
        raise BundleProblem(message, REBUILD)
    return SAMPLERS[name](section)
