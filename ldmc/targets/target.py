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
from ldmc.ir import COMPONENTS

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
_KINDS = {str: "a text", int: "a whole number", list: "a list", dict: "a table"}
_ENGINES = ("onnxruntime-cpu",)
_PRECISIONS = ("float32", "float16", "int8")
# What the `fp16` pass can keep by kind; a `COMPONENT/module.path` may stand beside these.
ISLANDS = ("norm", "softmax", "quantiser", "timestep")


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
        return _parse(path.read_bytes(), name)
    if name not in target_names():
        near = difflib.get_close_matches(name, target_names(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"unknown target {name!r}", fix=f"{hint}targets are {_listed()}, or the path of a .toml file"
        )
    file = resources.files("ldmc.targets") / f"{name}.toml"
    return _parse(file.read_bytes(), f"{name}.toml")


def _listed() -> str:
    return ", ".join(target_names())


def _parse(content: bytes, where: str) -> Target:
    try:
        data = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{where} is not TOML: {error}", fix="mend the file") from error
    for key in data:
        if key not in _SCHEMA:
            raise UsageError(f"{where}: unknown key {key!r}", fix=f"keys are {', '.join(_SCHEMA)}")
    for key, kind in _SCHEMA.items():
        _check(where, data, key, kind)
    _one_of(where, "engine", data["engine"], _ENGINES)
    for precision in data["precisions"]:
        _one_of(where, "precisions", precision, _PRECISIONS)
    for island in data["fp32_islands"]:
        if "/" not in str(island):
            _one_of(where, "fp32_islands", island, ISLANDS)
    for component in data["pipelines"]:
        _one_of(where, "pipelines", component, COMPONENTS)
    for table, keys in (("pipelines", COMPONENTS), ("requirements", ("python", *data["requirements"]))):
        for key in keys:
            _check(f"{where}: {table}", data[table], key, str)
    lists = {key: tuple(data[key]) for key in ("precisions", "fp32_islands")}
    return Target(**{**data, **lists})


def _check(where: str, data: dict[str, Any], key: str, kind: type) -> None:
    """`data` has `key`, and it is of `kind`."""
    if key not in data:
        raise UsageError(f"{where}: key {key!r} is missing", fix=f"add it; it is {_KINDS[kind]}")
    if not isinstance(data[key], kind) or isinstance(data[key], bool):
        raise UsageError(f"{where}: {key} = {data[key]!r} is not {_KINDS[kind]}", fix="mend the value")


def _one_of(where: str, key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{where}: {key} holds {value!r}", fix=f"allowed are {', '.join(allowed)}")
