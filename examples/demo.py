"""The demo: compile the small trained model and the full 330M one, and draw with the compiled bundle.

    python examples/demo.py [FOLDER]

Uses nothing but the command line, as a user would.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent


def ldmc(*arguments: object) -> None:
    """Run one command, showing it first."""
    command = [str(argument) for argument in arguments]
    print(f"\n$ ldmc {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", "ldmc", *command], check=True)


def main(folder: Path) -> None:
    """Compile both models for this machine's CPU and draw 16 digits."""
    folder.mkdir(parents=True, exist_ok=True)
    digits, faces, picture = folder / "digits-ldm.cpu.ldmc", folder / "ldm-celebahq-256.cpu.ldmc", folder / "digits.png"
    ldmc("build", "--target", "cpu", "--model", EXAMPLES / "digits-ldm", "-o", digits, "--force")
    ldmc("run", digits, "--batch", 16, "--grid", "-o", picture)
    ldmc("build", "--target", "cpu", "--random-weights", "-o", faces, "--force")
    ldmc("inspect", faces)
    print(
        f"\n16 digits drawn by the compiled bundle: {picture}"
        f"\nits bundle:                             {digits}"
        f"\nthe full 330M model (random weights):   {faces}"
        f"\ntime it:                                {Path(sys.executable).parent / 'ldmc'} bench {faces} --runs 3"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
