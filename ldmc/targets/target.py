"""Reading a target: a TOML file that says what a device is, and how models are compiled for it.

A wrong file names the key, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ldmc.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Target:
    """One device.

    name, summary, arch: who it is. precisions: dtypes it computes in.
    opset: highest ONNX opset its engine reads. engine: the inference engine of the bundle's runtime.
    requirements: package -> version constraint the runtime needs on the device, Python under `python`.
    fp32_islands: what the `fp16` pass keeps in fp32 there, unless told otherwise.
    pipelines: component -> default pass spec.
    """

    name: str
    summary: str
    arch: str
    engine: str
    opset: int
    precisions: tuple[str, ...]
    fp32_islands: tuple[str, ...]
    requirements: dict[str, str]
    pipelines: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As printed by `ldmc targets --json`."""
        return {
            "name": self.name,
            "summary": self.summary,
            "arch": self.arch,
            "engine": self.engine,
            "opset": self.opset,
            "precisions": list(self.precisions),
            "fp32_islands": list(self.fp32_islands),
            "requirements": self.requirements,
            "pipelines": self.pipelines,
        }


_SCHEMA: dict[str, type] = {
    "name": str,
    "summary": str,
    "arch": str,
    "engine": str,
    "opset": int,
    "precisions": list,
    "fp32_islands": list,
    "requirements": dict,
    "pipelines": dict,
}
_ENGINES = ("onnxruntime-cpu",)
_PRECISIONS = ("float32", "float16", "int8")


def target_names() -> list[str]:
    """Names of the targets that come with ldmc, sorted."""
    files = resources.files("ldmc.targets").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load_target(name: str) -> Target:
    """The target of that name, or of that TOML file if `name` ends in `.toml`.

    Raises:
        UsageError: no such target or file, not TOML, or a key that is missing, unknown or wrong.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(
                f"there is no target file {name}", fix=f"targets that come with ldmc: {_listed()}"
            )
        return _parse(path.read_text(encoding="utf-8"), name)
    if name not in target_names():
        near = difflib.get_close_matches(name, target_names(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"unknown target {name!r}", fix=f"{hint}targets are {_listed()}, or the path of a .toml file"
        )
    file = resources.files("ldmc.targets") / f"{name}.toml"
    return _parse(file.read_text(encoding="utf-8"), f"{name}.toml")


def _listed() -> str:
    return ", ".join(target_names())


def _parse(text: str, where: str) -> Target:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not TOML: {error}", fix="mend the file") from error
    for key in data:
        if key not in _SCHEMA:
            raise UsageError(f"{where}: unknown key {key!r}", fix=f"keys are {', '.join(_SCHEMA)}")
    for key, kind in _SCHEMA.items():
        if key not in data:
            raise UsageError(f"{where}: key {key!r} is missing", fix=f"add it; it is a {kind.__name__}")
        if not isinstance(data[key], kind):
            raise UsageError(f"{where}: {key} = {data[key]!r} is not a {kind.__name__}", fix="mend the value")
    _one_of(where, "engine", data["engine"], _ENGINES)
    for precision in data["precisions"]:
        _one_of(where, "precisions", precision, _PRECISIONS)
    return Target(
        **{
            **data,
            "precisions": tuple(data["precisions"]),
            "fp32_islands": tuple(data["fp32_islands"]),
        }
    )


def _one_of(where: str, key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{where}: {key} holds {value!r}", fix=f"allowed are {', '.join(allowed)}")
