"""A Jetson that is none: doubles of TensorRT and CUDA on the paths where the real ones are, and a fake root folder."""

from __future__ import annotations

import json
import os
import signal
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOUBLES = Path(__file__).parents[1] / "doubles"
NANO_RELEASE = "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, DATE: Sat Feb 19 2022\n"
ORIN_RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan 8 2025\n"


class Device:
    """Runs a bundle's commands as on the device.

    python: the interpreter. folder: of its own files. environment: of every command; a test may add to it.
    """

    def __init__(self, folder, version="8_2", python=sys.executable):
        self.python = python
        self.root = folder / "root"
        self.report = folder / "cudart.txt"
        self.tools = folder / "bin"
        self.tools.mkdir()
        is_nano = version == "8_2"
        library = compile_cudart(folder / "lib", "libcudart.so.10.2" if is_nano else "libcudart.so.12")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TRT_", "CUDART_"))}
        self.environment = {
            **kept, "PYTHONPATH": str(DOUBLES / f"tensorrt_{version}"), "LD_LIBRARY_PATH": str(library),
            "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}", "CUDART_DOUBLE_REPORT": str(self.report),
            "CUDART_DOUBLE_CAPABILITY": "53" if is_nano else "87",
            "CUDART_DOUBLE_VERSION": "10020" if is_nano else "12060",
        }
        self.write("etc/nv_tegra_release", NANO_RELEASE if is_nano else ORIN_RELEASE)
        self.write("proc/sys/kernel/arch", "aarch64\n")
        self.set_memory(available_mib=3300)

    def write(self, path, text):
        """A file of the machine."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def set_memory(self, available_mib, swap_mib=2048):
        """What /proc/meminfo says."""
        self.write("proc/meminfo", f"MemTotal:        4051000 kB\nMemFree:  100000 kB\nMemAvailable:   "
                   f"{available_mib * 1024} kB\nSwapTotal:       {swap_mib * 1024} kB\nHugePages_Total:       0\n")

    def command(self, *arguments):
        """The argv of `python3 -m runtime ...`."""
        return [self.python, "-B", "-m", "runtime", *map(str, arguments)]

    def finish(self, bundle, *arguments, **environment):
        """Runs `finish` inside the bundle; without timing, unless --runs is given."""
        return self.run(bundle, *self._finish(*arguments), **environment)

    def run(self, bundle, *arguments, **environment):
        """Runs the bundle's runtime."""
        return subprocess.run(self.command(*arguments), cwd=bundle, env={**self.environment, **environment},
                              capture_output=True, text=True)

    def start_finish(self, bundle, *arguments, **environment):
        """Starts it, and does not wait."""
        # As from a terminal: under nohup, or in the background of a script, SIGINT would be ignored.
        return subprocess.Popen(self.command(*self._finish(*arguments)), cwd=bundle, text=True,
                                env={**self.environment, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))

    def run_module(self, *arguments):
        """Runs a module of this checkout, with the device's libraries."""
        root = str(Path(__file__).parents[2])
        environment = {**self.environment, "PYTHONPATH": root + os.pathsep + self.environment["PYTHONPATH"]}
        command = [self.python, "-m", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def _finish(self, *arguments):
        return ("finish", "--root", self.root, "--steps", "2", "--runs", "0", *arguments)

    def leaks(self):
        """What the last process that loaded CUDA left, and how often it was refused."""
        allocations, size, streams, _, refused = map(int, self.report.read_text().split())
        return {"allocations": allocations, "bytes": size, "streams": streams, "refused": refused}

    def add_tool(self, name, source):
        """A program on PATH, in Python."""
        path = self.tools / name
        path.write_text(f"#!{sys.executable}\n{source}")
        path.chmod(0o755)
        return path


def compile_cudart(folder, name):
    """The folder of the libcudart double, compiled; skips where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc) to make the libcudart double with")
    folder.mkdir()
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(folder / name), str(DOUBLES / "cudart.c"), "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def json_of(done):
    """stdout as the one JSON object it must be."""
    return json.loads(done.stdout)
