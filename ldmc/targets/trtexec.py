"""The command line of `trtexec` that builds an engine, in the words of each version.

    8.2     trtexec --onnx=unet.onnx --saveEngine=unet.engine --fp16 --workspace=64 --buildOnly
    8.5     trtexec --onnx=unet.onnx --saveEngine=unet.engine --fp16 --memPoolSize=workspace:64 --buildOnly
    8.6     trtexec --onnx=unet.onnx --saveEngine=unet.engine --fp16 --memPoolSize=workspace:64 --skipInference
    10, 11  trtexec --onnx=unet.onnx --saveEngine=unet.engine --stronglyTyped --memPoolSize=workspace:64 --skipInference

It is what people know and what the reference project used; this project builds through the Python API instead, because
trtexec 8.2 loads the engine again, with the builder still in memory, before it writes it.
"""

from __future__ import annotations

from ldmc.runtime.versions import release

WORKSPACE_AS_POOL = (8, 4)
SKIPS_INFERENCE = (8, 6)
STRONGLY_TYPED = (10, 0)


def build_argv(
    version: str,
    onnx: str,
    engine: str,
    *,
    half: bool = False,
    workspace_mib: int = 0,
    build_only: bool = True,
) -> list[str]:
    """The command that builds `engine` from `onnx` with trtexec `version`, such as `8.2.1`.

    half: the graph has float16 tensors. workspace_mib: 0 leaves it at trtexec's default, 16 MiB in 8.2.
    """
    at = release(version)[:2]
    command = ["trtexec", f"--onnx={onnx}", f"--saveEngine={engine}"]
    if half:
        command.append("--stronglyTyped" if at >= STRONGLY_TYPED else "--fp16")
    if workspace_mib:
        pool = at >= WORKSPACE_AS_POOL
        command.append(f"--memPoolSize=workspace:{workspace_mib}" if pool else f"--workspace={workspace_mib}")
    if build_only:
        command.append("--skipInference" if at >= SKIPS_INFERENCE else "--buildOnly")
    return command


def reference_recipe(version: str, component: str) -> list[str]:
    """How the reference project built its engine: one graph with its weights inside, and no other option."""
    return build_argv(version, f"{component}.onnx", f"{component}.trt")
