"""`python3 -m runtime bench` inside a bundle, on machines that are none: what it writes, shows and refuses."""

import base64
import json
import os
import shlex
import subprocess
import sys

import pytest

from ldmc.compiler.levels.read import check_result
from tests.patience import HANG_SECONDS
from tests.runtime.meters.machines import battery, nano, orin, write
from tests.runtime.meters.test_nvidia import compile_nvml
from tests.runtime.meters.test_tegrastats import NANO_BUSY
from tests.runtime.old_python import old_python
from tests.runtime.tiny_bundle import make_bundle, read_manifest_json, refresh_files, write_manifest

# Of the shared form of a result; what reads it expects each.
TOP = {"kind", "schema_version", "measured_at", "command", "device", "machine", "packages", "model", "settings",
       "power", "interrupted", "levels"}
LEVEL = {"name", "title", "kind", "bundle", "target", "engine", "pipeline", "status", "why", "prepare_seconds",
         "load_seconds", "first_seconds", "warmup_seconds", "denoise", "decode", "total", "run_seconds",
         "peak_rss_bytes", "peak_pss_bytes", "private_bytes_after_load", "peak_gpu_bytes", "power_watts",
         "power_net_watts", "energy_joules", "energy_net_joules", "speedup", "speedup_low", "speedup_high", "spread",
         "psnr_db", "identical", "picture_png",
         "absent"}
LONG = ("--steps", "2", "--runs", "3")
# `python3 -m runtime` on a machine that is slow enough for the meter: on any. What is slept through is part of what is
# timed. The LAST drawing does not end: Ctrl-C comes in it.
SLOWLY = """
import os, signal, sys, time
from runtime import loader, stopping
from runtime.__main__ import main

draw, seconds, last = loader.Pipeline.generate_timed, float(sys.argv[1]), int(sys.argv[2])
drawn = 0

def slowly(self, **options):
    global drawn
    drawn += 1
    if drawn == last:
        os.kill(os.getpid(), signal.SIGINT)
        while True:  # a drawing that does not end
            stopping.check()
            time.sleep(0.01)
    image, timing = draw(self, **options)
    time.sleep(seconds)
    end = time.monotonic()
    more = end - timing["end_monotonic_seconds"]
    return image, dict(timing, end_monotonic_seconds=end, denoise_seconds=timing["denoise_seconds"] + more,
                       total_seconds=end - timing["start_monotonic_seconds"])

loader.Pipeline.generate_timed = slowly
sys.exit(main(sys.argv[3:]))
"""
DRAWING_SECONDS = 0.3  # three times the longest interval but a battery's, which is 0.5 s


@pytest.fixture
def bundle(tmp_path):
    """A bundle for a Jetson that the CPU runs, with its runtime."""
    root = make_bundle(tmp_path / "tiny.jetson-nano.ldmc", runtime=True)
    manifest = dict(read_manifest_json(root), target="jetson-nano", power="tegrastats", pipeline={"unet": "onnx,fold"},
                    toolchain={"ldmc": "0.1.0"})
    write_manifest(root, manifest)
    return root


@pytest.fixture
def machine(tmp_path):
    """The root of a machine that has nothing."""
    folder = tmp_path / "machine"
    folder.mkdir()
    return folder


@pytest.fixture(params=["this Python", "Python 3.6"])
def python(request):
    """Both Pythons, or a skip of the older."""
    return sys.executable if request.param == "this Python" else old_python()


def command(machine, *arguments, python=sys.executable, seconds=DRAWING_SECONDS, last=0):
    """seconds: that each drawing takes longer. last: the drawing in which it is interrupted, from 1; 0 for none."""
    return [python, "-B", "-c", SLOWLY, str(seconds), str(last), "bench", "--root", str(machine), "--idle", "0.3",
            *map(str, arguments)]


def environment(tools=None):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return dict(kept, PATH=f"{tools.folder}{os.pathsep}{kept['PATH']}") if tools else kept


def bench(bundle, machine, *arguments, tools=None, **options):
    return subprocess.run(command(machine, *arguments, **options), cwd=bundle, env=environment(tools),
                          capture_output=True, text=True, timeout=HANG_SECONDS)


def result_of(bundle, machine, *arguments, **options):
    done = bench(bundle, machine, *arguments, "--json", **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_form(result):
    """What every reader of results relies on."""
    check_result(result, "here")
    assert set(result) == TOP
    level, = result["levels"]
    assert LEVEL <= set(level)
    nulls = {key for key in level if level[key] is None} - {"why", "pipeline"}
    assert set(level["absent"]) == nulls
    assert all(isinstance(why, str) and why for why in level["absent"].values())
    return level


def check_energy(level, watts):
    """That constant power came out as such."""
    assert level["power_watts"] == pytest.approx(watts)
    assert level["energy_joules"] == pytest.approx(watts * level["total"]["mean_seconds"])


def test_a_jetson_nano(bundle, machine, python):
    result = result_of(bundle, nano(machine), *LONG, "--warmup", "2", "--batch", "2", "--threads", "1", python=python)
    level = check_form(result)
    assert result["device"].startswith("NVIDIA Jetson Nano Developer Kit, ")
    assert result["power"] == {"meter": "INA3221, POM_5V_IN", "absent": None, "idle_watts": pytest.approx(4.2)}
    assert result["settings"] == {"steps": 2, "runs": 3, "warmup": 2, "batch": 2, "threads": 1, "seed": 0,
                                  "torch_device": None}
    assert result["packages"]["ldmc"] == "0.1.0" and "onnxruntime" in result["packages"]
    assert result["machine"]["memory_bytes"] == 4051000 * 1024
    assert result["command"].startswith("python3 -m runtime bench --root ")
    check_energy(level, 4.2)
    assert level["rail_watts"] == {"POM_5V_IN": pytest.approx(4.2), "POM_5V_GPU": pytest.approx(1.5),
                                   "POM_5V_CPU": pytest.approx(0.9)}
    assert level["absent"]["power_net_watts"] == "4.20 W while drawing is not above the 4.20 W of idling"
    assert level["absent"]["peak_gpu_bytes"] == "CPU and GPU share the memory: see peak_system_bytes"
    assert (level["name"], level["target"], level["engine"], level["status"]) == (
        "tiny.jetson-nano.ldmc", "jetson-nano", "onnxruntime", "measured")
    assert len(level["run_seconds"]) == level["total"]["n"] == 3 and len(level["warmup_seconds"]) == 2
    assert level["peak_rss_bytes"] >= level["peak_pss_bytes"] > 1 << 20
    assert base64.b64decode(level["picture_png"]).startswith(b"\x89PNG")


def test_an_engine_that_is_not_built_is_refused_before_idling(bundle, machine):
    manifest = read_manifest_json(bundle)
    manifest["components"]["decoder"]["parts"][0].update(form="engine", file="decoder/model.engine")
    write_manifest(bundle, manifest)
    done = bench(bundle, nano(machine))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: engine decoder/model.engine of {bundle} is not built yet\n" \
        "fix:   on the jetson-nano run: python3 -m runtime finish\n"


def test_an_orin(bundle, machine):
    result = result_of(bundle, orin(machine), *LONG)
    check_energy(check_form(result), 5.7)


def test_an_nvidia_card(bundle, machine, tmp_path, python):
    """The driver's library, a double, on the loader's path; the process finds itself among those on the card."""
    write_manifest(bundle, dict(read_manifest_json(bundle), target="rtx-3070", power="nvml"))
    (tmp_path / "lib").mkdir()
    compile_nvml(tmp_path / "lib" / "libnvidia-ml.so.1")
    whole = " ".join(map(shlex.quote, command(machine, *LONG, "--json", python=python)))
    done = subprocess.run(
        ["sh", "-c", f'export NVML_DOUBLE_PROCESSES="77:5 $$:1200"; exec {whole}'], cwd=bundle, capture_output=True,
        env={**environment(), "LD_LIBRARY_PATH": str(tmp_path / "lib"), "NVML_DOUBLE_WATTS": "66.81",
             "NVML_DOUBLE_REPORT": str(tmp_path / "report")}, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    level = check_form(result)
    card = "NVIDIA GeForce RTX 3070 Laptop GPU"
    assert result["power"]["meter"] == f"NVML, {card}"
    assert result["machine"]["gpu"] == card == result["device"]
    assert level["power_watts"] == pytest.approx(66.81, rel=0.2)  # a counter, between two of its readings
    assert level["peak_gpu_bytes"] == 1200 << 20
    assert (tmp_path / "report").read_text() == "0 0\n"


def test_a_jetson_whose_chip_is_closed(bundle, machine, tools, python):
    tools.prints("tegrastats", [NANO_BUSY + "\n"], every=0.02, for_ever=True)
    level = check_form(result_of(bundle, machine, *LONG, tools=tools, python=python))
    check_energy(level, 3.353)
    assert level["rail_watts"]["POM_5V_GPU"] == pytest.approx(0.45)
    assert level["rail_watts"]["POM_5V_CPU"] == pytest.approx(0.613)


def test_idle_power_is_taken_off(bundle, machine, tools):
    """A tegrastats that shows 2 W until the bundle's optimised graph is on disk, and 5 W from then on."""
    tools.add("tegrastats", f"""
import os, sys, time
while True:
    watts = 5000 if len(os.listdir({str(bundle / "unet")!r})) > 2 else 2000
    print("RAM 1923/3964MB POM_5V_GPU 1/1 POM_5V_IN %d/1628 POM_5V_CPU 366/406" % watts, flush=True)
    time.sleep(0.02)""")
    done = bench(bundle, machine, *LONG, "--idle", "0.5", "-o", "here.json", tools=tools)
    assert done.returncode == 0, done.stderr
    result = json.loads((bundle / "here.json").read_text())
    level = check_form(result)
    assert result["power"]["meter"] == "tegrastats, POM_5V_IN"
    assert result["power"]["idle_watts"] == pytest.approx(2.0)
    check_energy(level, 5.0)
    assert level["power_net_watts"] == pytest.approx(3.0)
    assert level["energy_net_joules"] == pytest.approx(3.0 * level["total"]["mean_seconds"])
    assert done.stderr.splitlines() == ["power: tegrastats, POM_5V_IN", "idle: 2.00 W", "wrote here.json"]
    shown = done.stdout.splitlines()
    assert shown[0].startswith("tiny.jetson-nano.ldmc on ") and "wrote here.json" not in shown
    assert [line for line in shown if line.startswith("power    5.00 W (tegrastats, POM_5V_IN), ")]
    assert [line for line in shown if line.startswith("net      3.00 W over 2.00 W idle, ")]
    assert "  POM_5V_CPU       0.37 W" in shown


def test_without_a_meter_it_says_so_and_gives_no_number(bundle, machine):
    done = bench(bundle, machine, "--steps", "2", "--json")
    result = json.loads(done.stdout)
    level = check_form(result)
    why = "there is no INA3221 in /sys/bus/i2c/drivers; there is no tegrastats on PATH"
    assert result["power"] == {"meter": None, "absent": why, "idle_watts": None}
    assert {level["absent"][name] for name in ("power_watts", "power_net_watts", "energy_joules")} == {why}
    assert level["rail_watts"] == {} and done.stderr == ""
    assert "power    none: " + why in bench(bundle, machine, "--steps", "2").stdout


def test_too_little_work_for_the_meter_is_no_number(bundle, machine):
    """More readings are asked for than there are in this time."""
    file = bundle / "runtime" / "level.py"
    assert "LEAST_READINGS = 3\n" in file.read_text()
    file.write_text(file.read_text().replace("LEAST_READINGS = 3\n", "LEAST_READINGS = 1000\n"))
    refresh_files(bundle)
    level = check_form(result_of(bundle, nano(machine), "--steps", "1", "--runs", "1", seconds=0))
    assert level["absent"]["energy_joules"].startswith("INA3221, POM_5V_IN gave ")
    assert level["absent"]["energy_joules"].endswith("one every 0.1 s; draw longer: more runs or steps")


def test_a_meter_that_stops_is_no_number(bundle, machine, tools):
    tools.add("tegrastats", f"""
import os, sys, time
print({NANO_BUSY!r}, flush=True)
while len(os.listdir({str(bundle / "unet")!r})) < 3:  # until it draws
    time.sleep(0.02)
    print({NANO_BUSY!r}, flush=True)""")
    result = result_of(bundle, machine, *LONG, "--idle", "0.1", tools=tools)
    level = check_form(result)
    assert result["power"]["meter"] == "tegrastats, POM_5V_IN"
    assert level["absent"]["power_watts"].startswith("tegrastats ended (exit code 0): RAM 1462/3957MB")


def test_a_bundle_of_before_the_power_key(bundle, machine):
    manifest = read_manifest_json(bundle)
    del manifest["power"], manifest["toolchain"], manifest["pipeline"]
    write_manifest(bundle, manifest)
    result = result_of(bundle, battery(machine), *LONG, seconds=1)
    check_energy(check_form(result), 2.0)
    assert result["power"]["meter"] == "battery (battery)"
    assert "ldmc" not in result["packages"]


def test_a_phone_is_called_by_its_name(bundle, machine, tools):
    tools.add("getprop", "import sys; print({'ro.product.manufacturer': 'samsung'}.get(sys.argv[1], 'SM-S901B'))")
    assert result_of(bundle, machine, "--steps", "1", tools=tools)["device"].startswith("samsung SM-S901B, ")


def test_any_other_machine_is_called_by_its_processor(bundle, machine):
    write(machine, "proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC  9R14\n")
    result = result_of(bundle, machine, "--steps", "1")
    assert result["device"] == "AMD EPYC 9R14, %d cores" % result["machine"]["cores"]


def test_idle_power_can_be_left_out(bundle, machine):
    result = result_of(bundle, nano(machine), *LONG, "--idle", "0")
    level = check_form(result)
    check_energy(level, 4.2)
    assert result["power"]["idle_watts"] is None
    assert level["absent"]["energy_net_joules"] == "idle power was not asked for"


def test_what_was_measured_before_ctrl_c_is_kept(bundle, machine, tmp_path):
    """It comes in the fourth drawing: the first warms up, two are measured."""
    target = tmp_path / "here.json"
    done = bench(bundle, nano(machine), "--steps", "2", "--runs", "100", "--warmup", "1", "-o", target, last=4)
    assert done.returncode == 130, done.stderr
    result = json.loads(target.read_text())
    level = check_form(result)
    assert level["status"] == "measured"
    assert result["interrupted"] == "after 2 of 100 drawings" and level["total"]["n"] == 2
    check_energy(level, 4.2)
    assert "interrupted " + result["interrupted"] in done.stdout


@pytest.mark.parametrize("arguments, code, words", [
    (("--runs", "0"), 2, "error: runs is 0, expected an integer from 1"),
    (("--steps", "0"), 2, "error: steps is 0"),
    (("--idle", "-1"), 2, "error: --idle is -1 s; it goes from 0 to 3600"),
    (("-o", "gone/here.json"), 1, "error: cannot write gone/here.json: its folder does not exist"),
    (("--bundle", "gone"), 1, "gone does not exist"),
])
def test_what_it_refuses(bundle, machine, arguments, code, words):
    done = bench(bundle, machine, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr and "Traceback" not in done.stderr
