"""Where Python looks for modules when this package is run from inside a bundle."""

import os
import sys


def own_folder_last():
    """Has Python look into the bundle's folder last, if it looks there first.

    `python3 -m runtime` looks into the working folder before all others: a file numpy.py in a bundle would be run in
    numpy's place. Modules of this package are not looked for there.
    """
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not sys.path or not os.path.isfile(os.path.join(folder, "manifest.json")):
        return
    if os.path.realpath(sys.path[0] or os.getcwd()) == os.path.realpath(folder):
        sys.path.append(sys.path.pop(0))
