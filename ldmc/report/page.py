"""The page: the template filled in, and the file written whole or not at all.

[bundle, result, check]   --views-->   report.html (Jinja2, autoescape)   --rename-->   report.html on disk
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ldmc
from ldmc.errors import LdmcError, UsageError
from ldmc.report.bundle import BundleView, bundle_view
from ldmc.report.fidelity import CheckView, check_view
from ldmc.report.inputs import Inputs, Json, read_inputs
from ldmc.report.levels import ResultView, result_view
from ldmc.runtime.files import write_whole
from ldmc.runtime.speech import printable

_TEMPLATE, _SCRIPT, _STYLE = "report.html", "report.js", "report.css"


def write_report(inputs: Iterable[Path | Json], output: Path) -> int:
    """Write one self-contained HTML file.

    inputs: folders of bundles, files of results, and results as they are in memory.

    Returns: bytes of the file.
    Raises:
        UsageError, BundleError: an input is not what it must be. LdmcError: `output` cannot be written.
    """
    inputs = list(inputs)
    if any(isinstance(item, Path) and _same(item, output) for item in inputs):
        raise UsageError(
            f"{output} is what the report is made of, and would be replaced by it", fix="give another file with -o"
        )
    content = render(read_inputs(inputs)).encode("utf-8")
    _write(output, content)
    return len(content)


def render(inputs: Inputs) -> str:
    """The page as text; the same inputs give the same text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ldmc.report", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined, finalize=_shown,
    )  # fmt: skip
    script, style = (_source(environment, name) for name in (_SCRIPT, _STYLE))
    page = environment.get_template(_TEMPLATE).render(
        **_views(inputs), script=script, style=style, script_hash=_sha256(script), version=ldmc.__version__
    )
    return "\n".join(line.rstrip() for line in page.splitlines() if line.strip()) + "\n"


def _same(a: Path, b: Path) -> bool:
    """Whether two paths lead to one place; a link that leads to itself leads nowhere else."""
    return os.path.realpath(a) == os.path.realpath(b)


def _shown(value: Any) -> Any:
    """Control characters written out. Markup is this page's own."""
    return value if not isinstance(value, str) or hasattr(value, "__html__") else printable(value)


def _views(inputs: Inputs) -> dict[str, Any]:
    bundles = [bundle_view(bundle, index) for index, bundle in enumerate(inputs.bundles)]
    results = [result_view(result, index) for index, result in enumerate(inputs.results)]
    known = {key for check in inputs.checks for key in ("stages", "blocks") if check.data.get(key)}
    checks = [check_view(check, index, known) for index, check in enumerate(inputs.checks)]
    return {"title": _title(inputs, bundles, results, checks), "bundles": bundles, "results": results, "checks": checks}


def _title(
    inputs: Inputs, bundles: list[BundleView], results: list[ResultView], checks: list[CheckView]
) -> str:
    """What the one bundle or result is; of several, the models that they are of."""
    views: list[BundleView | ResultView] = [*bundles, *results]
    if not views:
        return f"Verification of {checks[0].label}"
    names = dict.fromkeys([b.manifest.name for b in inputs.bundles] + [result.model for result in results])
    return views[0].title if len(views) == 1 else ", ".join(names)


def _source(environment: Any, name: str) -> str:
    """A template's text as it is: styles and scripts hold nothing to fill in."""
    text, _, _ = environment.loader.get_source(environment, name)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


def _sha256(script: str) -> str:
    """The hash by which the page's policy knows its one script, and no other."""
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _write(output: Path, content: bytes) -> None:
    try:
        write_whole(output, content)
    except OSError as error:
        fix = (
            "free some space"
            if error.errno == errno.ENOSPC
            else "give a file in a folder that exists and can be written"
        )
        raise LdmcError(f"the report {output} cannot be written: {error.strerror or error}", fix=fix) from error
