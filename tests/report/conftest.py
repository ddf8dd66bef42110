"""A report's tests: one page with everything in it, made once, and a browser that is not on the network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ldmc.report import write_report
from tests.report import samples

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def page_file(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a real bundle, a result with all kinds of level, one without power, and a verification."""
    folder = tmp_path_factory.mktemp("report")
    given = {
        "bench.json": samples.bench(),
        "other.json": samples.bench_without_power(),
        "verify.json": samples.verify(),
    }
    files = [samples.save(data, folder / name) for name, data in given.items()]
    write_report([tiny_bundle, *files], folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `test`)")
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no Chromium on PATH ({', '.join(BROWSERS)}): the report was not looked at in a browser")
    with playwright.sync_playwright() as engine:
        running = engine.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()
