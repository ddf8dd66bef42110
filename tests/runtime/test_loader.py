"""Loading, drawing, and arguments that do not fit."""

import builtins
import time
import weakref

import numpy as np
import onnx
import onnxruntime
import pytest

from ldmc.runtime import BundleProblem, InputProblem, load
from ldmc.runtime.schedulers.ddim import DDIM
from tests.patience import HANG_SECONDS
from tests.runtime.tiny_bundle import LATENT, SCHEDULER, make_bundle, refresh_files


@pytest.fixture(scope="module")
def pipeline(shared_bundle):
    with load(shared_bundle) as opened:
        yield opened


def _noise(seed, count=1):
    return np.random.RandomState(seed).standard_normal((count,) + LATENT).astype(np.float32)


def test_components_give_what_the_model_gives(pipeline, shared_bundle):
    session = onnxruntime.InferenceSession(str(shared_bundle / "unet" / "model.onnx"))
    latent = _noise(3)
    expected, = session.run(None, {"input_0": latent, "input_1": np.array([321])})
    np.testing.assert_allclose(pipeline.unet(latent, 321), expected, atol=1e-5)
    session = onnxruntime.InferenceSession(str(shared_bundle / "decoder" / "model.onnx"))
    expected, = session.run(None, {"input_0": latent})
    np.testing.assert_allclose(pipeline.decode(latent), expected, atol=1e-5)


def test_the_timestep_matters_and_may_be_an_array(pipeline):
    latent = _noise(0, 2)
    both = pipeline.unet(latent, np.array([10, 900]))
    np.testing.assert_array_equal(both[0], pipeline.unet(latent[:1], 10)[0])
    np.testing.assert_array_equal(both[1], pipeline.unet(latent[1:], [900])[0])
    assert not np.array_equal(both, pipeline.unet(latent, 10))


def test_generate_is_noise_then_ddim_then_decoder(pipeline):
    sampler = DDIM(SCHEDULER)
    sample = _noise(5)
    for t in sampler.timesteps(7):
        sample = sampler.step(pipeline.unet(sample, int(t)), t, sample)
    expected = np.rint(np.clip((pipeline.decode(sample)[0] + 1) * 127.5, 0, 255)).astype(np.uint8).transpose(1, 2, 0)
    image = pipeline.generate(seed=5, steps=7)
    assert image.dtype == np.uint8 and image.shape == (32, 32, 3)
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_seed_always_draws_the_same(pipeline, eta):
    first = pipeline.generate(seed=1, steps=3, eta=eta)
    np.testing.assert_array_equal(first, pipeline.generate(seed=1, steps=3, eta=eta))
    assert not np.array_equal(first, pipeline.generate(seed=2, steps=3, eta=eta))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_picture_k_of_a_batch_is_what_seed_plus_k_draws(pipeline, eta):
    images = pipeline.generate(seed=4, steps=3, batch=3, eta=eta)
    assert images.shape == (3, 32, 32, 3)
    for k in range(3):
        np.testing.assert_array_equal(images[k], pipeline.generate(seed=4 + k, steps=3, eta=eta))


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
def test_a_component_compiled_for_two_takes_any_batch(tmp_path, pipeline, batch):
    with load(make_bundle(tmp_path / "two", batch=2)) as pairs:
        images = pairs.generate(seed=0, steps=2, batch=batch)
    expected = pipeline.generate(seed=0, steps=2, batch=batch)
    assert images.shape == expected.shape
    assert int(np.abs(images.astype(int) - expected.astype(int)).max()) <= 1


def test_the_first_noise_may_be_given(pipeline):
    np.testing.assert_array_equal(pipeline.generate(seed=9, steps=3, latent=_noise(6).astype(np.float64)),
                                  pipeline.generate(seed=6, steps=3))


def test_float16_inputs_and_outputs(tmp_path, pipeline):
    with load(make_bundle(tmp_path / "half", dtype="float16")) as half:
        output = half.unet(_noise(0), 500)
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, pipeline.unet(_noise(0), 500), atol=2e-2)


def test_steps_are_reported_and_timed(pipeline):
    seen = []
    image, seconds = pipeline.generate_timed(steps=4, on_step=lambda done, steps: seen.append((done, steps)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert image.shape == (32, 32, 3)
    assert sorted(seconds) == ["decode_seconds", "denoise_seconds", "end_monotonic_seconds", "open_seconds",
                               "start_monotonic_seconds", "total_seconds"]
    assert seconds["end_monotonic_seconds"] - seconds["start_monotonic_seconds"] == seconds["total_seconds"]
    assert 0 <= time.monotonic() - seconds["end_monotonic_seconds"] < HANG_SECONDS
    assert seconds["open_seconds"] == 0
    assert seconds["total_seconds"] == pytest.approx(seconds["denoise_seconds"] + seconds["decode_seconds"])


@pytest.mark.parametrize("options, words", [
    ({"steps": 0}, "steps is 0"),
    ({"steps": 1001}, "steps is 1001; the model was trained with 1000 timesteps"),
    ({"steps": 2.5}, "steps is 2.5, expected an integer"),
    ({"seed": -1}, "seed is -1, expected an integer from 0"),
    ({"seed": 2 ** 32 - 1, "batch": 2}, "reach over the largest seed"),
    ({"seed": "a"}, "seed is 'a'"),
    ({"batch": 0}, "batch is 0, expected an integer from 1"),
    ({"eta": 1.5}, "eta is 1.5, expected a number from 0 to 1"),
    ({"eta": float("nan")}, "eta is nan"),
    ({"latent": np.zeros((1, 3, 8, 9), np.float32)}, r"shape \[1, 3, 8, 9\], expected \[N, 3, 8, 8\]"),
    ({"latent": np.zeros((1, 3, 8, 8), np.int32)}, "latent is int32, expected floating point"),
    ({"latent": np.zeros((2, 3, 8, 8), np.float32)}, "holds 2 latents and batch is 1"),
])
def test_arguments_that_do_not_fit(pipeline, options, words):
    with pytest.raises(InputProblem, match=words) as caught:
        pipeline.generate(**options)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("latent, t, words", [
    (np.zeros((3, 8, 8), np.float32), 1, r"shape \[3, 8, 8\], expected \[N, 3, 8, 8\]"),
    (np.zeros((0, 3, 8, 8), np.float32), 1, r"shape \[0, 3, 8, 8\]"),
    (np.zeros((2, 3, 8, 8), np.float32), [1, 2, 3], r"t is of shape \[3\], expected one timestep or \[2\]"),
    (np.zeros((1, 3, 8, 8), np.float32), 1.5, "t is float64, expected an integer"),
    ("noise", 1, "the latent is <U5"),
])
def test_unet_arguments_that_do_not_fit(pipeline, latent, t, words):
    with pytest.raises(InputProblem, match=words):
        pipeline.unet(latent, t)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", 9999])
def test_threads_that_do_not_fit(shared_bundle, threads):
    with pytest.raises(InputProblem, match="threads is"):
        load(shared_bundle, threads=threads)


def test_one_thread_draws_the_same(shared_bundle, pipeline):
    with load(shared_bundle, threads=1) as single:
        np.testing.assert_allclose(single.unet(_noise(0), 1), pipeline.unet(_noise(0), 1), atol=1e-6)


def test_a_component_that_gives_no_numbers_is_named(tmp_path):
    with load(make_bundle(tmp_path / "b", unet_scale=float("inf"))) as broken:
        with pytest.raises(BundleProblem, match="component unet gave 192 values of 192 that are NaN or infinite"):
            broken.generate(steps=1)


def test_a_closed_pipeline_gives_its_sessions_back_at_once(bundle, monkeypatch, no_collection):
    sessions = []
    real = onnxruntime.InferenceSession

    def made(*arguments, **options):
        session = real(*arguments, **options)
        sessions.append(weakref.ref(session))
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", made)
    for _ in range(2):  # the first load also saves the optimised graphs
        with load(bundle) as pipeline:
            pipeline.generate(steps=2)
    assert len(sessions) == 6 and {session() for session in sessions} == {None}


def test_a_closed_pipeline_says_so(shared_bundle):
    with load(shared_bundle) as opened:
        pass
    opened.close()
    with pytest.raises(BundleProblem, match="was closed"):
        opened.generate(steps=1)


def test_a_missing_engine_names_what_to_install(shared_bundle, monkeypatch):
    def refuse(name, *rest):
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real_import(name, *rest)

    real_import = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(BundleProblem, match="needs ONNX Runtime, which cannot be imported") as caught:
        load(shared_bundle)
    assert caught.value.fix == "pip install 'onnxruntime>=1.10'"


def test_an_engine_that_fails_writes_nothing_of_its_own(bundle, capfd):
    """Its log has colours, a second telling of the error, and names of the graph as they stand."""
    path = bundle / "unet" / "model.onnx"
    model = onnx.load(str(path), load_external_data=False)
    size = onnx.helper.make_tensor("size", onnx.TensorProto.INT64, [1], [7])
    model.graph.initializer.append(size)
    model.graph.node.append(onnx.helper.make_node("Reshape", [model.graph.output[0].name, "size"], ["r"], "\x1b[2J"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, [7]))
    path.write_bytes(model.SerializeToString())
    refresh_files(bundle)
    with load(bundle) as pipeline, pytest.raises(BundleProblem, match="ONNX Runtime failed to run component unet"):
        pipeline.generate(steps=1)
    assert capfd.readouterr() == ("", "")
