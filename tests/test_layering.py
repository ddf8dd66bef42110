"""The arrows of the house, held: who may import whom, read from the source, lazy imports included.

A rule is one test, which lists every file that breaks it.

cli -> commands, terminal -> compiler -> passes -> targets -> ir, errors, runtime
       commands -> report -> compiler
                 compiler -> artifacts -> runtime -> nothing
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import ldmc

ROOT = Path(ldmc.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
SCRIPTS = sorted((*ROOT.parent.glob("benchmarks/**/*.py"), *ROOT.parent.glob("examples/**/*.py")))
MOST_LINES = 300
MOST_FUNCTION_LINES = 40

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
    "ldmc/runtime/__main__.py", "ldmc/runtime/trt/worker.py", "ldmc/runtime/onnx_runtime.py",
    "ldmc/runtime/stopping.py",
    "ldmc/runtime/checks/cache_folder.py",  # the runtime stands alone, so it looks for the user's cache folder itself
)  # fmt: skip
COMMAND_LINE_ONLY = {
    "os.environ", "os.environb", "os.getenv", "os.putenv", "environ", "getenv",
    "sys.exit", "os._exit", "exit", "sys.argv", "print", "input",
}  # fmt: skip
# What the runtime may import, once a component needs it.
ENGINES = ("onnxruntime", "torch")


def room(file: Path) -> str:
    """`ldmc/passes/rewrites/qkv.py` -> `passes`; `ldmc/__init__.py` -> `version`, all there is in it."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return "version" if parts == ("__init__",) else parts[0]


@functools.lru_cache(maxsize=None)
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


def libraries(file: Path) -> set[str]:
    """The top-level names of all that the file imports."""
    return {module.partition(".")[0] for module, _ in absolute_imports(file)}


def label(file: Path) -> str:
    return file.relative_to(ROOT.parent).as_posix()


def offenders(files: Iterable[Path], problem: Callable[[Path], object]) -> list[str]:
    """`file: problem` for each file of which `problem` gives something."""
    return [f"{label(file)}: {found}" for file in files if (found := problem(file))]


def test_every_room_has_its_arrows() -> None:
    assert {room(file) for file in FILES} <= ARROWS.keys()


def test_the_arrows_go_one_way() -> None:
    def reachable(name: str) -> set[str]:
        return ARROWS[name].union(*(reachable(other) for other in ARROWS[name]))

    for name in ARROWS:
        assert name not in reachable(name)


def test_imports_follow_the_arrows() -> None:
    assert not offenders(FILES, lambda file: imported_rooms(file) - {room(file)} - ARROWS[room(file)])


def test_no_files_import_each_other_in_a_circle() -> None:
    """Lazy imports count; an import for types alone does too, since it ties the files all the same."""
    imports = {module_name(file): _imported_modules(file) for file in FILES}
    assert _circles(imports) == []


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported_modules(file: Path) -> set[str]:
    """Modules of ldmc that the file names; `from package import name` is the module `name` where there is one.

    A package that is named for one of its modules is not counted: its face imports nothing of theirs.
    """
    known = {module_name(other) for other in FILES}
    package = module_name(file) if file.stem == "__init__" else module_name(file).rpartition(".")[0]
    found = {module for module, name in absolute_imports(file) if not name}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in known else base)
    return found & known - {module_name(file)}


def _circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which reaches all others: what is left of a graph once its free ends are taken away."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for other in imports[waiting.pop()] - seen:
                seen.add(other)
                waiting.append(other)
        return seen

    reached = {module: reachable(module) for module in imports}
    groups = {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in imports
        if module in reached[module]
    }
    return sorted(sorted(group) for group in groups)


def test_libraries_stay_in_their_rooms() -> None:
    assert not offenders(
        FILES, lambda file: {name for name in libraries(file) if room(file) not in LIBRARIES.get(name, {room(file)})}
    )


def test_onnxruntime_is_imported_in_one_place() -> None:
    """Where its telemetry is forbidden first."""
    importing = [file for file in (*FILES, *SCRIPTS) if "onnxruntime" in libraries(file)]
    assert importing == [ROOT / "runtime" / "onnx_runtime.py"]


def test_the_runtime_stands_alone() -> None:
    """Its own modules by relative import, the standard library and numpy; the engine only when it is used."""
    files = [file for file in FILES if room(file) == "runtime"]
    assert len(files) > 50
    allowed = {*sys.stdlib_module_names, "numpy", *ENGINES}
    assert not offenders(files, lambda file: libraries(file) - allowed)
    assert not offenders(files, lambda file: _at_import(file) & set(ENGINES))


def _at_import(file: Path) -> set[str]:
    """What is imported as soon as the file is."""
    return {
        alias.name.partition(".")[0]
        for node in tree(file).body
        for child in ast.walk(node)
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Try, ast.If)) and isinstance(child, ast.Import)
        for alias in child.names
    }


def test_only_the_command_line_reads_the_environment_prints_or_exits() -> None:
    files = [file for file in FILES if room(file) not in ("cli", "commands") and label(file) not in MAY_EXIT_OR_ASK]
    assert not offenders(files, lambda file: _names(file) & COMMAND_LINE_ONLY)


def _names(file: Path) -> set[str]:
    """Every name in the file, and every attribute of one as `name.attribute`."""
    nodes = list(ast.walk(tree(file)))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        f"{node.value.id}.{node.attr}"
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def test_every_module_says_what_it_is_for() -> None:
    assert not offenders(FILES, lambda file: not (ast.get_docstring(tree(file)) or "").strip())


def test_every_pass_shows_an_example() -> None:
    """A before and an after in the docstring of each file that defines one."""
    files = [file for file in FILES if file.parent == ROOT / "passes" and _defines_a_pass(file)]
    assert len(files) > 8
    assert not offenders(files, lambda file: "->" not in (ast.get_docstring(tree(file)) or ""))


def _defines_a_pass(file: Path) -> bool:
    classes = [node for node in tree(file).body if isinstance(node, ast.ClassDef)]
    return any(isinstance(base, ast.Name) and base.id == "Pass" for node in classes for base in node.bases)


def test_no_file_is_long() -> None:
    def too_long(file: Path) -> int:
        lines = len(file.read_text(encoding="utf-8").splitlines())
        return lines if lines > MOST_LINES else 0

    assert not offenders(FILES, too_long)


def test_functions_are_short_and_take_no_kwargs() -> None:
    def wrong(file: Path) -> list[str]:
        functions = [node for node in ast.walk(tree(file)) if isinstance(node, ast.FunctionDef)]
        return [node.name for node in functions if _takes_anything(node) or _lines(node) > MOST_FUNCTION_LINES]

    assert not offenders(FILES, wrong)


def _takes_anything(node: ast.FunctionDef) -> bool:
    # `evolve` is dataclasses.replace: its keywords are the fields. `render_str` overrides a method of rich.
    return node.args.kwarg is not None and node.name not in ("evolve", "render_str")


def _lines(node: ast.FunctionDef) -> int:
    """Lines from the first statement to the last, without the docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
