"""How long a test waits for what must happen, on the slowest of machines and beside any load.

It guards against a hang only, and says nothing of how long it should take.
"""

HANG_SECONDS = 900
