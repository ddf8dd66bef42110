"""`python -m ldmc` is `ldmc`."""

from ldmc.cli import main

main()
