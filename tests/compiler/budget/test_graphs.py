"""Lowering a request without weights: the graphs that a build would give its engines."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from ldmc.compiler.budget import graphs
from ldmc.compiler.budget.graphs import lower_request, part_graphs
from ldmc.compiler.frontend import ModelRequest, open_model, read_program
from ldmc.compiler.graph import load_summary
from ldmc.errors import LdmcError, PassError, SpecError
from ldmc.targets.reader import load_target


@pytest.fixture(scope="module")
def bare_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's configurations, without a weight."""
    folder = tmp_path_factory.mktemp("models") / "bare"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    return folder


def test_the_graphs_are_those_of_a_build(bare_model: Path, tiny_bundle: Path) -> None:
    lowered = lower_request(ModelRequest(str(bare_model)), "onnx,fold", load_target("cpu"))
    assert [component.name for component in lowered] == ["unet", "decoder"]
    for component in lowered:
        (part,) = component.parts
        built = load_summary(tiny_bundle / component.name / "model.onnx")
        assert (part.nodes, part.initializers) == (built.nodes, built.initializers)
        assert (component.spec, component.insertions) == ("onnx,fold", ())


def test_what_the_target_needs_is_put_between_unless_strict(bare_model: Path) -> None:
    nano, request = load_target("jetson-nano"), ModelRequest(str(bare_model))
    unet, _ = lower_request(request, "fp16,onnx,trt", nano)
    assert unet.spec.startswith("fp16,onnx,fold,groupnorm{form=primitive},opset") and unet.spec.endswith(
        ",trt"
    )
    assert len(unet.insertions) == 3 and unet.parts[0].opset == 13
    with pytest.raises(PassError, match="--strict inserts nothing"):
        lower_request(request, "fp16,onnx,trt", nano, strict=True)


def test_a_partition_is_counted_part_by_part_and_whole(bare_model: Path) -> None:
    request = ModelRequest(str(bare_model))
    unet, decoder = lower_request(request, "onnx,fold,partition{parts=2}", load_target("cpu"))
    assert (len(unet.parts), len(decoder.parts)) == (2, 2)
    assert unet.whole.outputs == unet.parts[-1].outputs
    assert len(unet.whole.nodes) <= sum(len(part.nodes) for part in unet.parts)


def test_what_fails_in_the_other_process_is_told_here(bare_model: Path) -> None:
    """`decoder` is lowered in a process of its own: its error must not be lost on the way."""
    spec = "fp16{keep=[decoder/no.such.module]},onnx,fold"
    with pytest.raises(LdmcError, match="no module 'no.such.module'") as caught:
        lower_request(ModelRequest(str(bare_model)), spec, load_target("cpu"))
    assert "did you mean" in caught.value.fix or "module path" in caught.value.fix


def test_a_process_that_is_killed_is_told(bare_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, run = os.getpid(), graphs._Job.run

    def killed(job: graphs._Job) -> graphs.Lowered:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return run(job)

    monkeypatch.setattr(graphs._Job, "run", killed)
    with pytest.raises(PassError, match="decoder: the process that lowered it ended with -9"):
        lower_request(ModelRequest(str(bare_model)), "onnx,fold", load_target("cpu"))


def test_without_fork_it_is_done_one_after_the_other(
    bare_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    lowered = lower_request(ModelRequest(str(bare_model)), "onnx,fold", load_target("cpu"))
    assert [component.name for component in lowered] == ["unet", "decoder"]


def test_a_wrong_spec_is_told_before_the_model_is_opened() -> None:
    with pytest.raises(SpecError, match="unknown pass"):
        lower_request(ModelRequest("no/such/model"), "onxx", load_target("cpu"))


@pytest.mark.parametrize("passes", ["torchscript", "fp16,aoti"])
def test_what_pytorch_runs_cannot_be_planned_and_is_not_compiled_first(passes: str) -> None:
    with pytest.raises(PassError, match="planned from ONNX graphs") as caught:
        lower_request(ModelRequest("no/such/model"), passes, load_target("cpu"))
    assert "with onnx in it" in caught.value.fix


def test_a_form_without_a_graph_cannot_be_planned(bare_model: Path) -> None:
    request = ModelRequest(str(bare_model), random_seed=0)
    program = read_program(open_model(request, print), request)
    with pytest.raises(PassError, match="planned from ONNX graphs, this is in torch form"):
        part_graphs(program.components[0])
