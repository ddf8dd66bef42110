"""Timing and memory."""

import numpy as np
import pytest

from ldmc.runtime import InputProblem, load, memory
from ldmc.runtime.measure import Drawings, percentile, summary


def test_drawings_are_timed_one_by_one(shared_bundle):
    seen = []
    drawings = Drawings(lambda: load(shared_bundle, threads=1), steps=2, runs=3, warmup=2, seed=1, batch=2)
    assert drawings.run(lambda done, of: seen.append((done, of))) is drawings
    assert len(drawings.timings) == 5 and drawings.load_seconds > 0 and drawings.image.shape[0] == 2
    assert all(timing["total_seconds"] > 0 for timing in drawings.timings)
    assert seen == [(k, 5) for k in range(1, 6)]


class _Clock(object):
    """A pipeline whose drawings take 9, 1, 2, 3 seconds; then one is interrupted."""

    def __init__(self):
        self.seconds = [9.0, 1.0, 2.0, 3.0]
        self.closed = False

    def generate_timed(self, seed, steps, batch, on_step):
        if not self.seconds:
            raise KeyboardInterrupt
        taken = self.seconds.pop(0)
        return None, {"denoise_seconds": taken, "decode_seconds": 1.0, "total_seconds": taken + 1, "open_seconds": 0.25}

    def close(self):
        self.closed = True


def test_what_is_interrupted_closes():
    clock = _Clock()
    with pytest.raises(KeyboardInterrupt):
        Drawings(lambda: clock, runs=5, warmup=0).run()
    assert clock.closed


@pytest.mark.parametrize("options", [{"runs": 0}, {"runs": 1.0}, {"warmup": -1}, {"runs": True}])
def test_counts_that_do_not_fit_are_refused_before_loading(options):
    def never():
        raise AssertionError("loaded")

    with pytest.raises(InputProblem):
        Drawings(never, **options)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 101])
def test_percentiles_are_numpys(count):
    values = np.random.RandomState(count).rand(count).tolist()
    for percent in (0, 50, 90, 99, 100):
        assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)))
    assert summary(values)["p90_seconds"] == percentile(values, 90)


def test_memory_grows_by_what_is_taken():
    if memory.private_bytes() is None:
        pytest.skip("this system does not say how much memory is private")
    before = memory.private_bytes()
    block = np.ones(32 << 20, np.uint8)
    assert 30 << 20 < memory.private_bytes() - before < 40 << 20
    assert memory.peak_rss_bytes() >= before + block.nbytes


def test_a_container_limit_counts(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text("max\n")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (str(limit), str(tmp_path / "gone")))
    machine = memory.limit_bytes()
    limit.write_text("1048576\n")
    assert memory.limit_bytes() == 1 << 20
    assert machine is None or machine > 1 << 20


def test_elsewhere_memory_is_partly_known(monkeypatch):
    monkeypatch.setattr(memory, "_from_status", lambda key: None)
    assert memory.private_bytes() is None
    assert memory.peak_rss_bytes() > 1 << 20


def test_a_limit_of_this_processs_own_group_counts(tmp_path, monkeypatch):
    """A group below the one that is mounted as the root: what a memory-limited run is in."""
    (tmp_path / "lean").mkdir()
    (tmp_path / "lean" / "memory.max").write_text(str(3 << 20))
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (str(tmp_path) + "{}/memory.max",))
    monkeypatch.setattr(memory, "_groups", lambda: ["", "/lean"])
    assert memory.limit_bytes() == 3 << 20


@pytest.mark.parametrize("lines, groups", [
    (["9:name=systemd:/\n", "4:memory:/box/lean\n", "2:cpu,cpuacct:/other\n", "0::/\n"], ["", "/box/lean"]),
    (["5:cpu,memory:/a\n"], ["", "/a"]),
    (["0::/user.slice/lean\n"], ["", "/user.slice/lean"]),
    ([], [""]),
])
def test_groups_of_both_versions(lines, groups):
    assert memory._memory_groups(lines) == groups
