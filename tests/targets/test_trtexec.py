"""Every trtexec command line that is printed has only flags that its version takes.

`trtexec_flags/` lists them by version, from trtexec's own help and source (samples/common/sampleOptions.cpp of
NVIDIA/TensorRT at that release).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ldmc.targets.trtexec import build_argv, reference_recipe

FLAGS = {
    file.stem.removeprefix("flags_"): set(file.read_text().split())
    for file in sorted((Path(__file__).parent / "trtexec_flags").glob("flags_*.txt"))
}


def flags(argv: list[str]) -> list[str]:
    """The flags of a command line, without what they are given."""
    assert argv[0] == "trtexec"
    return [word.partition("=")[0] for word in argv[1:]]


def test_six_versions_are_known() -> None:
    assert list(FLAGS) == ["10.16", "10.3", "11.1", "8.2.1", "8.5", "8.6"]


@pytest.mark.parametrize("version", FLAGS)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("workspace_mib", [0, 64])
@pytest.mark.parametrize("build_only", [False, True])
def test_a_version_takes_every_flag(version: str, half: bool, workspace_mib: int, build_only: bool) -> None:
    argv = build_argv(
        version, "unet.onnx", "unet.engine", half=half, workspace_mib=workspace_mib, build_only=build_only
    )
    assert set(flags(argv)) <= FLAGS[version]
    assert len(argv) == 3 + half + bool(workspace_mib) + build_only


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("8.2.1", ["--fp16", "--workspace=64", "--buildOnly"]),
        ("8.5", ["--fp16", "--memPoolSize=workspace:64", "--buildOnly"]),
        ("8.6", ["--fp16", "--memPoolSize=workspace:64", "--skipInference"]),
        ("10.3", ["--stronglyTyped", "--memPoolSize=workspace:64", "--skipInference"]),
        ("11.1", ["--stronglyTyped", "--memPoolSize=workspace:64", "--skipInference"]),
    ],
)
def test_the_newest_word_that_a_version_has_is_used(version: str, words: list[str]) -> None:
    argv = build_argv(version, "unet.onnx", "unet.engine", half=True, workspace_mib=64)
    assert argv == ["trtexec", "--onnx=unet.onnx", "--saveEngine=unet.engine", *words]


def test_the_reference_projects_recipe() -> None:
    assert reference_recipe("8.2.1.8", "unet") == [
        "trtexec", "--onnx=unet.onnx", "--saveEngine=unet.trt", "--buildOnly",
    ]  # fmt: skip
