"""`python3 -m runtime bench`: time, memory and energy of a bundle on the device it is for.

    command.py    what is asked for, and what is shown
    flow.py       idle power, preparing, drawings under the meter, the level

The result (`runtime/result.py`) has the form of `ldmc bench`'s, so that `ldmc compare` on a host puts it beside others.
"""
