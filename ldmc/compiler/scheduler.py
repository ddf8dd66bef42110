"""The manifest's scheduler section, from the checkpoint's scheduler class and its configuration file.

The class decides: each has defaults of its own for the keys that a file leaves out, and a class that the runtime does
not implement is refused by its name. Every key of the file is implemented, or may have only the values listed here, or
is known to change nothing; any other key is an error, because nobody can say what it would have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ldmc.compiler.config_keys import bookkeeping
from ldmc.errors import ModelError
from ldmc.runtime.errors import BundleProblem
from ldmc.runtime.schedulers import sampler_of

_FIX = "correct scheduler/scheduler_config.json"
_NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
}


@dataclass(frozen=True)
class SchedulerClass:
    """A scheduler class of diffusers that the runtime implements.

    type: its name in the manifest. implemented: key -> the class's own default. only: key -> the values under which it
    does what the runtime does. unread: keys of the class without effect where `only` holds.
    """

    type: str
    implemented: Mapping[str, Any]
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()


CLASSES = {
    "DDIMScheduler": SchedulerClass(
        "ddim",
        {
            **_NOISE,
            "clip_sample": True,
            "clip_sample_range": 1.0,
            "set_alpha_to_one": True,
            "timestep_spacing": "leading",
            "rescale_betas_zero_snr": False,
        },
        only={"thresholding": (False,)},
        unread=frozenset({"dynamic_thresholding_ratio", "sample_max_value"}),  # of thresholding
    ),
    "PNDMScheduler": SchedulerClass(
        "pndm",
        {**_NOISE, "skip_prk_steps": False, "set_alpha_to_one": False, "timestep_spacing": "leading"},
    ),
    "EulerDiscreteScheduler": SchedulerClass(
        "euler",
        {
            **_NOISE,
            "timestep_spacing": "linspace",
            "rescale_betas_zero_snr": False,
            "final_sigmas_type": "zero",
        },
        only={
            "interpolation_type": ("linear",),
            "use_karras_sigmas": (False, None),
            "use_exponential_sigmas": (False, None),
            "use_beta_sigmas": (False, None),
            "timestep_type": ("discrete",),
        },
        unread=frozenset({"sigma_min", "sigma_max"}),  # of Karras, exponential and beta sigmas
    ),
}
# What diffusers before 0.3 wrote beside the keys of today; neither was ever a setting of the noise schedule.
_OLD = frozenset({"timestep_values", "tensor_format"})
# Keys of other schedulers: `from_config` carries them from class to class, and a class does not read what is not its
# own. Published examples: Stable Diffusion 2.1 (DDIM) and XL (Euler) both have `skip_prk_steps`.
_OF_OTHERS = frozenset(
    {
        "algorithm_type",
        "clip_sample",
        "clip_sample_range",
        "disable_corrector",
        "dynamic_thresholding_ratio",
        "euler_at_final",
        "final_sigmas_type",
        "flow_shift",
        "interpolation_type",
        "lambda_min_clipped",
        "lower_order_final",
        "original_inference_steps",
        "predict_x0",
        "rescale_betas_zero_snr",
        "sample_max_value",
        "set_alpha_to_one",
        "sigma_max",
        "sigma_min",
        "skip_prk_steps",
        "solver_order",
        "solver_p",
        "solver_type",
        "thresholding",
        "timestep_scaling",
        "timestep_type",
        "use_beta_sigmas",
        "use_exponential_sigmas",
        "use_flow_sigmas",
        "use_karras_sigmas",
        "use_lu_lambdas",
        "variance_type",
    }
)


def scheduler_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's scheduler section. config: the parsed scheduler_config.json, with its `_class_name`.

    Raises:
        ModelError: the class is not implemented, or a key or value of it.
    """
    name = config.get("_class_name")
    known = CLASSES.get(name) if isinstance(name, str) else None
    if known is None:
        raise ModelError(
            f"the checkpoint's scheduler is {name or 'of no class'}; ldmc implements {', '.join(CLASSES)}",
            fix="compile a checkpoint with one of these, or save its scheduler as one: "
            "diffusers.DDIMScheduler.from_config(...).save_pretrained(...) (other pictures)",
        )
    config = _with_today_s_names(config, known)
    _check_keys(config, str(name), known)
    section = {"type": known.type} | {
        key: config.get(key, default) for key, default in known.implemented.items()
    }
    try:
        sampler_of(section)
    except BundleProblem as problem:
        raise ModelError(f"{problem.message} ({name})", fix=_FIX) from problem
    return section


def _with_today_s_names(config: Mapping[str, Any], known: SchedulerClass) -> dict[str, Any]:
    """Without `timesteps`, as diffusers before 0.2 called `num_train_timesteps`: today's diffusers does not read it."""
    renamed = dict(config)
    if "timesteps" not in renamed:
        return renamed
    old = renamed.pop("timesteps")
    count = renamed.get("num_train_timesteps", known.implemented["num_train_timesteps"])
    if old != count:
        raise ModelError(
            f"the scheduler's timesteps is {old!r}; diffusers reads num_train_timesteps alone and takes {count!r}",
            fix=f"rename timesteps to num_train_timesteps in scheduler/scheduler_config.json, or set it to {count!r}",
        )
    return renamed


def _check_keys(config: Mapping[str, Any], name: str, known: SchedulerClass) -> None:
    for key, value in config.items():
        if key in known.implemented or key in known.unread or bookkeeping(key) or key in _OLD:
            continue
        if key in known.only:
            if not any(value is allowed or value == allowed for allowed in known.only[key]):
                allowed = " or ".join(repr(one) for one in known.only[key] if one is not None)
                raise ModelError(
                    f"the scheduler's {key} is {value!r}; ldmc implements {name} with {key} {allowed}",
                    fix="compile a checkpoint whose scheduler is configured so",
                )
            continue
        if key not in _OF_OTHERS:
            raise ModelError(
                f"scheduler/scheduler_config.json: {key} is not a key that ldmc knows of {name}: "
                "it may change the picture",
                fix="remove it if it has no effect, or compile with a version that implements it",
            )
