"""The error tree. Every error a user can cause is one of these; anything else is a bug in ldmc.

    LdmcError              exit 1   the work failed
    |-- UsageError         exit 2   the command line asks for something that does not exist or cannot work
    |   |-- SpecError               a pass spec does not parse or does not fit its pipeline; carries a caret
    |-- ModelError         exit 1   the checkpoint is not what it should be (config, weights)
    |-- PassError          exit 1   a pass could not do its work, or broke what it must keep
    |-- BundleError        exit 1   a bundle cannot be written or read
    |-- BudgetError        exit 4   predicted memory is over the target's budget
    |-- VerificationError  exit 5   outputs, hashes or sizes are not what they must be
    |-- Interrupted        exit 130 the user or the system asked to stop

A message says what is wrong, where, and the numbers; `fix` says what to do about it.
"""


from typing import Any


class LdmcError(Exception):
    """Base of all errors that are reported to the user as one sentence and an exit code.

    Args:
        message: what went wrong, where, and the numbers.
        fix: what the user can do about it; empty where nothing sensible can be said.
        result: what was found all the same, as the command would have printed it; part of the error object.
    """

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, *, fix: str = "", result: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.result = result or {}

    def to_json(self) -> dict[str, Any]:
        """The documented error object: `{error: {code, message, fix}}`, and the result's keys."""
        return {**self.result, "error": {"code": self.code, "message": self.message, "fix": self.fix}}


class UsageError(LdmcError):
    """The command asks for something that does not exist or cannot work."""

    exit_code = 2
    code = "usage"


class SpecError(UsageError):
    """A pass spec does not parse, or does not fit where it stands.

    Args:
        message: what is wrong.
        text: the whole spec as typed.
        position: offset of the first character that is wrong, for the caret.
    """

    code = "spec"

    def __init__(self, message: str, *, text: str, position: int, fix: str = "") -> None:
        super().__init__(f"{message}\n    {text}\n    {' ' * position}^", fix=fix)
        self.text = text
        self.position = position


class ModelError(LdmcError):
    """The checkpoint is not what it should be."""

    code = "model"


class PassError(LdmcError):
    """A pass could not do its work, or broke something it must keep."""

    code = "pass"


class BundleError(LdmcError):
    """A bundle cannot be written or read."""

    code = "bundle"


class BudgetError(LdmcError):
    """Predicted memory is over the target's budget."""

    exit_code = 4
    code = "over_budget"


class VerificationError(LdmcError):
    """Outputs, hashes or sizes are not what they must be."""

    exit_code = 5
    code = "verification"


class Interrupted(LdmcError):
    """The user or the system asked to stop."""

    exit_code = 130
    code = "interrupted"


class StopSignal(BaseException):
    """SIGINT or SIGTERM came: it unwinds the work, and nothing that handles errors may swallow it.

    Not KeyboardInterrupt: once one of those has passed through exec() of a string, as torch's tracing does, CPython
    ends the process by signal, whatever exit code it is given (see `unhandled_keyboard_interrupt` in its runtime).
    """
