"""The runtime's own errors: it depends on nothing, so it cannot use the compiler's.

    BundleProblem      exit 1 or 5   the bundle, the engine or the device is not what it must be
    |-- InputProblem   exit 2        an argument does not fit: steps, seed, shapes, dtypes, threads
"""


class BundleProblem(Exception):
    """A bundle cannot be loaded or run.

    Args:
        message: what is wrong, where, and the numbers; one sentence.
        fix: what to do about it; may be empty.
        exit_code: 1 in general, 5 where sizes or hashes are not what the manifest says.
    """

    def __init__(self, message, fix="", exit_code=1):
        super(BundleProblem, self).__init__(message)
        self.message = message
        self.fix = fix
        self.exit_code = exit_code


class InputProblem(BundleProblem):
    """An argument given to the runtime does not fit the bundle."""

    def __init__(self, message, fix=""):
        super(InputProblem, self).__init__(message, fix, exit_code=2)


def first_line(problem):
    """The first line of another library's error that says something; its type's name where none does."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines or [type(problem).__name__])[0]
