"""The command line: gathers the commands, and turns errors into one sentence and an exit code.

With `commands/` the only code that exits, prints help and reads the environment. Every command keeps to
one rule: with --json the result is one JSON object on stdout and everything else goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import traceback
from collections.abc import Iterator

import click

import ldmc
from ldmc.commands.bench import bench
from ldmc.commands.build import build
from ldmc.commands.common import printable
from ldmc.commands.compare import compare
from ldmc.commands.diff import diff
from ldmc.commands.doctor import doctor
from ldmc.commands.inspect import inspect
from ldmc.commands.passes import passes
from ldmc.commands.plan import plan
from ldmc.commands.report import report
from ldmc.commands.run import run
from ldmc.commands.targets import targets
from ldmc.commands.verify import verify
from ldmc.errors import BundleError, Interrupted, LdmcError, StopSignal, UsageError, VerificationError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ldmc.__version__, prog_name="ldmc")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
def cli(debug: bool) -> None:
    """Ahead-of-time compiler for latent diffusion models on edge devices.

    \b
    Example:
      ldmc build --target cpu --random-weights
      ldmc run ldm-celebahq-256.cpu.ldmc --steps 20 -o face.png
    """


for _command in (build, plan, run, bench, compare, verify, report, inspect, diff, passes, targets, doctor):
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a command, turn errors into one sentence and an exit code."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    with _stoppable():
        _run(arguments, as_json="--json" in arguments, debug="--debug" in arguments)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM unwind the work, so that it cleans up after itself; an ignored signal stays ignored."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(_signal: int, _frame: object) -> None:
    raise StopSignal


def _run(arguments: list[str], *, as_json: bool, debug: bool) -> None:
    try:
        cli.main(args=arguments, prog_name="ldmc", standalone_mode=False, obj=arguments)
    except (StopSignal, KeyboardInterrupt, click.Abort):
        _fail(Interrupted("interrupted; nothing was left half-written"), as_json)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "ldmc"
        _fail(UsageError(error.format_message(), fix=f"see `{command} --help`"), as_json)
    except click.ClickException as error:
        _fail(LdmcError(error.format_message()), as_json)
    except Exception as error:
        if debug:
            traceback.print_exc()
        known = _known(error)
        if known is None:
            raise
        _fail(known, as_json)


def _known(error: Exception) -> LdmcError | None:
    """`error` as one of ours; None for a bug."""
    if isinstance(error, LdmcError):
        return error
    if any(kind.__name__ == "BundleProblem" for kind in type(error).__mro__):  # imported only when it is raised
        from ldmc.runtime import BundleProblem

        assert isinstance(error, BundleProblem)
        kinds: dict[int, type[LdmcError]] = {2: UsageError, 5: VerificationError}
        return kinds.get(error.exit_code, BundleError)(error.message, fix=error.fix)
    if isinstance(error, MemoryError):
        return LdmcError("out of memory", fix="close other programs, or build on a larger machine")
    return None


def _fail(error: LdmcError, as_json: bool) -> None:
    click.echo(printable(f"error: {error.message}"), err=True)
    if error.fix:
        click.echo(printable(f"fix:   {error.fix}"), err=True)
    if as_json:
        click.echo(json.dumps(error.to_json(), indent=1))
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
