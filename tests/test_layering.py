"""The arrows of the house, held: who may import whom, read from the source, lazy imports included.

cli -> commands, terminal -> compiler -> passes -> targets -> ir, errors, runtime
       commands -> report -> compiler
                 compiler -> artifacts -> runtime -> nothing
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ldmc

ROOT = Path(ldmc.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MOST_LINES = 300

# room -> rooms it may import, beside itself
ARROWS = {
    "errors": set(),
    "ir": set(),
    "runtime": set(),
    "targets": {"runtime", "ir", "errors"},
    "passes": {"targets", "runtime", "ir", "errors"},
    "artifacts": {"runtime", "errors"},
    "compiler": {"passes", "targets", "ir", "errors", "artifacts", "runtime", "version"},
    "terminal": {"compiler", "passes", "targets", "ir", "errors", "runtime"},
    "report": {"compiler", "artifacts", "runtime", "errors", "version"},
    "commands": {"terminal", "report", "compiler", "passes", "targets", "artifacts", "runtime", "errors"},
    "cli": {"commands", "runtime", "errors", "version"},
    "__main__": {"cli"},
    "version": set(),
}
# Libraries that only these rooms may know.
LIBRARIES = {
    "torch": {"compiler", "passes", "runtime"},
    "diffusers": {"compiler"},
    "huggingface_hub": {"compiler"},
    "safetensors": {"compiler"},
    "onnxsim": {"passes"},
    "onnx": {"compiler", "passes"},
    "onnx_ir": {"compiler", "passes", "artifacts"},
    "onnxruntime": {"runtime", "compiler"},
    "click": {"cli", "commands"},
    "jinja2": {"report"},
    "matplotlib": {"compiler", "report"},
    "rich": {"commands", "terminal", "compiler"},
}
# What, beside the command line, may read or set the environment, or end the process.
MAY_EXIT_OR_ASK = (
    "runtime/__main__.py", "runtime/trt/worker.py", "runtime/onnx_runtime.py", "runtime/stopping.py",
    "runtime/checks/cache_folder.py",  # the runtime stands alone, so it looks for the user's cache folder itself
)  # fmt: skip
# What the runtime may import, once a component needs it.
ENGINES = ("onnxruntime", "torch")


def room(file: Path) -> str:
    """`ldmc/passes/rewrites/qkv.py` -> `passes`; `ldmc/__init__.py` -> `version`, all there is in it."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return "version" if parts == ("__init__",) else parts[0]


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def absolute_imports(file: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every absolute import anywhere in the file; name is "" for `import module`."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


def imported_rooms(file: Path) -> set[str]:
    rooms = set()
    for module, name in absolute_imports(file):
        parts = [*module.split("."), *([name] if name else [])]
        if parts[0] == "ldmc":
            rooms.add(parts[1] if len(parts) > 1 else "version")
    return rooms


def label(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_every_room_has_its_arrows() -> None:
    assert {room(file) for file in FILES} <= ARROWS.keys()


def test_the_arrows_go_one_way() -> None:
    def reachable(name: str) -> set[str]:
        return ARROWS[name].union(*(reachable(other) for other in ARROWS[name]))

    for name in ARROWS:
        assert name not in reachable(name)


@pytest.mark.parametrize("file", FILES, ids=label)
def test_imports_follow_the_arrows(file: Path) -> None:
    own = room(file)
    assert imported_rooms(file) - {own} <= ARROWS[own]


@pytest.mark.parametrize("file", FILES, ids=label)
def test_libraries_stay_in_their_rooms(file: Path) -> None:
    for module, _ in absolute_imports(file):
        library = module.partition(".")[0]
        assert room(file) in LIBRARIES.get(library, {room(file)}), f"{library} in {label(file)}"


SCRIPTS = sorted((*ROOT.parent.glob("benchmarks/**/*.py"), *ROOT.parent.glob("examples/**/*.py")))


@pytest.mark.parametrize("file", [*FILES, *SCRIPTS], ids=lambda file: file.relative_to(ROOT.parent).as_posix())
def test_onnxruntime_is_imported_in_one_place(file: Path) -> None:
    """Where its telemetry is forbidden first."""
    if file == ROOT / "runtime" / "onnx_runtime.py":
        return
    assert "onnxruntime" not in {module.partition(".")[0] for module, _ in absolute_imports(file)}


@pytest.mark.parametrize("file", [file for file in FILES if room(file) == "runtime"], ids=label)
def test_the_runtime_stands_alone(file: Path) -> None:
    """Its own modules by relative import, the standard library and numpy; the engine only when it is used."""
    for module, _ in absolute_imports(file):
        top = module.partition(".")[0]
        assert top in sys.stdlib_module_names or top in ("numpy", *ENGINES), module
    at_import = {
        alias.name.partition(".")[0]
        for node in tree(file).body
        for child in ast.walk(node)
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Try, ast.If)) and isinstance(child, ast.Import)
        for alias in child.names
    }
    assert not at_import & set(ENGINES)


@pytest.mark.parametrize("file", FILES, ids=label)
def test_only_the_command_line_reads_the_environment_prints_or_exits(file: Path) -> None:
    if room(file) in ("cli", "commands") or label(file) in MAY_EXIT_OR_ASK:
        return
    attributes = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert not attributes & {
        "os.environ",
        "os.environb",
        "os.getenv",
        "os.putenv",
        "sys.exit",
        "os._exit",
        "sys.argv",
    }
    names = {node.id for node in ast.walk(tree(file)) if isinstance(node, ast.Name)}
    assert not names & {"print", "input", "exit", "environ", "getenv"}


@pytest.mark.parametrize("file", FILES, ids=label)
def test_every_module_says_what_it_is_for(file: Path) -> None:
    assert (ast.get_docstring(tree(file)) or "").strip()


@pytest.mark.parametrize(
    "file", [file for file in FILES if room(file) == "passes" and file.parent.name == "passes"], ids=label
)
def test_every_pass_shows_an_example(file: Path) -> None:
    """A before and an after in the docstring of each file that defines one."""
    classes = [node for node in tree(file).body if isinstance(node, ast.ClassDef)]
    bases = {base.id for node in classes for base in node.bases if isinstance(base, ast.Name)}
    if "Pass" in bases:
        assert "->" in (ast.get_docstring(tree(file)) or "")


@pytest.mark.parametrize("file", FILES, ids=label)
def test_no_file_is_long(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("file", FILES, ids=label)
def test_functions_are_short_and_take_no_kwargs(file: Path) -> None:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef):
            # `evolve` is dataclasses.replace: its keywords are the fields. `render_str` overrides a method of rich.
            assert node.args.kwarg is None or node.name in ("evolve", "render_str"), node.name
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                assert (body[-1].end_lineno or 0) - body[0].lineno < 40, node.name
