"""What a command says: its result on stdout, all else on stderr."""

import sys


def say(text):
    """One line."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def tell(text):
    """One line of the result."""
    sys.stdout.write(text + "\n")


def complaint(problem):
    """What is said of a BundleProblem: what is wrong, and on a line of its own what to do about it."""
    return "error: %s%s" % (problem.message, "\nfix:   %s" % problem.fix if problem.fix else "")


def counter(word):
    """A counter that overwrites itself on a terminal, called as (done, of); None where stderr is a file or a pipe."""
    if not sys.stderr.isatty():
        return None

    def show(done, total):
        sys.stderr.write("\r%s %d/%d%s" % (word, done, total, "\n" if done == total else ""))
        sys.stderr.flush()

    return show
