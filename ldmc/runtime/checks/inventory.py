"""A bundle's files against the list in its manifest: what is read must be on it, and nothing else may lie there.

What the runtime leaves in a bundle while it is used is known by name, and not trusted:

    unet/optimized-0123456789abcdef/     ONNX Runtime's graph: see `backends.graph_cache`
    .finish/                             requests, logs and timings of `finish`
    unet/model.engine, unet/model.ts     of a step of `finish`
    out.png, bench.json                  pictures and results, in the bundle's folder itself
"""

import os
import re

from ..errors import BundleProblem
from .external_data import external_locations
from .kinds import REBUILD
from .paths import OUTSIDE, inside

SHOWN_PROBLEMS = 5
VERIFICATION_FAILED = 5
_OWN = re.compile(r"""(
    manifest\.json(\.part-[\d-]+)?
    | [^/]+\.(png|json)(\.part-[\d-]+)?
    | \.finish/[^/]+
    | ([^/]+/)+optimized-([^/]+-)?[0-9a-f]{16}(\.part-[0-9a-f]{8})?/(key\.json|model\.onnx(\.data)?)
    )\Z""", re.VERBOSE)


def check_reads(manifest, record, force=False):
    """Checks the SHA-256 of every file that the manifest's parts are read from, weights of ONNX graphs included.

    Args: record: HashRecord. force: read the files even where the record has them.
    Raises: BundleProblem for a file that is not listed; with exit code 5 for one that is not as listed.
    """
    problems = []
    for component in sorted(manifest.components):
        for part in manifest.components[component].parts:
            if part.form == "engine" and part.file not in manifest.listed:
                continue  # not built yet
            names = [part.file]
            problem = hash_problem(manifest, part.file, record, force)
            if not problem and part.form == "onnx":
                names = external_files(manifest, part.file, record)
                problem = next(filter(None, (hash_problem(manifest, name, record, force) for name in names)), "")
            if problem and problem not in problems:
                problems.append(problem)
    refuse_problems(manifest.root, problems, VERIFICATION_FAILED)


def check_listed(manifest, record):
    """Reads every file that the manifest lists. Raises BundleProblem, exit code 5, for those that are not as listed."""
    problems = [hash_problem(manifest, relative, record, True) for relative in sorted(manifest.listed)]
    refuse_problems(manifest.root, [problem for problem in problems if problem], VERIFICATION_FAILED)


def check_graphs(manifest, record):
    """Checks that every ONNX graph that is run, or built from, has its weights in files of the bundle that are listed.

    Raises: BundleProblem.
    """
    for relative in graph_files(manifest):
        external_files(manifest, relative, record)


def graph_files(manifest):
    """The ONNX files of all parts, and those that engines are built from, finer ones included."""
    found = set()
    for component in manifest.components.values():
        for part in component.parts:
            found.update([part.source] + ([part.file] if part.form == "onnx" else []))
    for step in manifest.finish.get("steps") or []:
        for rung in step.get("ladder") or []:
            found.update(part.get("source") or "" for part in rung.get("finer") or [])
    return sorted(found - {""})


def external_files(manifest, relative, record):
    """The weights files that the ONNX graph `relative` names, as paths of the bundle. Raises BundleProblem."""
    folder = relative.rpartition("/")[0]
    found = []
    for location in record.external_of(relative, external_locations):
        whole = "%s/%s" % (folder, location) if folder else location
        where = "%s in %s" % (relative, manifest.root)
        if os.path.isabs(location):
            raise BundleProblem("%s names a file outside the bundle: %r" % (where, location), OUTSIDE)
        inside(manifest.root, whole, where)
        if whole not in manifest.listed:
            message = "%s has weights in %r, which the manifest does not list" % (where, whole)
            raise BundleProblem(message, REBUILD, VERIFICATION_FAILED)
        found.append(whole)
    return found


def hash_problem(manifest, relative, record, force):
    """What is wrong with a listed file; "" where its SHA-256 is the manifest's."""
    manifest.file_path(relative)
    expected = manifest.listed[relative]["sha256"].lower()
    try:
        found = record.sha256_of(relative, force)
    except OSError as problem:
        return "%s cannot be read (%s)" % (relative, problem.strerror or problem)
    return "" if found == expected else "%s has SHA-256 %s, expected %s" % (relative, found, expected)


def refuse_problems(root, problems, exit_code):
    """Raises BundleProblem with the first of `problems` and their number, if there are any."""
    if not problems:
        return
    shown = "; ".join(problems[:SHOWN_PROBLEMS])
    if len(problems) > SHOWN_PROBLEMS:
        shown += "; and %d more" % (len(problems) - SHOWN_PROBLEMS)
    count = "1 file is" if len(problems) == 1 else "%d files are" % len(problems)
    message = "%s: %s not as the manifest says: %s" % (root, count, shown)
    raise BundleProblem(message, "copy the bundle again whole, or build it again", exit_code=exit_code)


def check_unlisted(manifest):
    """Raises BundleProblem, exit code 5, that names the files which the manifest does not list."""
    found = unlisted(manifest)
    if not found:
        return
    shown = ", ".join(found[:SHOWN_PROBLEMS])
    if len(found) > SHOWN_PROBLEMS:
        shown += "; and %d more" % (len(found) - SHOWN_PROBLEMS)
    count = "1 file" if len(found) == 1 else "%d files" % len(found)
    raise BundleProblem("%s has %s that its manifest does not list: %s" % (manifest.root, count, shown),
                        "remove what does not belong there, or copy the bundle again into an empty folder",
                        exit_code=VERIFICATION_FAILED)


def unlisted(manifest):
    """Paths of files, and of links to folders, that neither the manifest lists nor the runtime makes; sorted."""
    made = _made_by_finish(manifest)
    found = []
    for folder, folders, names in os.walk(manifest.root, onerror=_refuse_folder):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in names + links:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, manifest.root).replace(os.sep, "/")
            own = (_OWN.match(relative) or relative in made) and not os.path.islink(path)
            if relative not in manifest.listed and not own:
                found.append(relative)
    return sorted(found)


def _refuse_folder(problem):
    raise BundleProblem("cannot list %s: %s" % (problem.filename, problem.strerror or problem), REBUILD)


def _made_by_finish(manifest):
    """Engines, and scripts that embed them: what was built before `--again` may still lie there."""
    found = set()
    for step in manifest.finish.get("steps") or []:
        parts = [part.file for component in manifest.components.values() for part in component.parts]
        parts += [part["file"] for rung in step.get("ladder") or [] for part in rung.get("finer") or []]
        parts += [step["was"]["file"]] if "was" in step else []
        found.update(file for file in parts if file.endswith(".engine"))
        if step.get("embed"):
            found.update(file[:-len("engine")] + "ts" for file in parts if file.endswith(".engine"))
    return found
