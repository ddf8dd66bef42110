"""What TensorRT says while it builds: kept in its last lines, and read for the figures it only tells there.

    Original: 1793 layers                        -> layers
    After reformat layers: 1 layers              -> engine_layers
    Total Weights Memory: 548020992 bytes        -> weights_bytes       not in 8.2
    Total Activation Memory: 35749888 bytes      -> activation_bytes
"""

import collections
import re

KEPT_LINES = 40
_FIGURES = (
    ("layers", re.compile(r"^Original: (\d+) layers")),
    ("engine_layers", re.compile(r"^After [\w -]+: (\d+) layers")),
    ("weights_bytes", re.compile(r"^Total Weights Memory: (\d+)")),
    ("activation_bytes", re.compile(r"^Total Activation Memory: (\d+)")),
)
# The parser numbers nodes in an order of its own; its log has their names.
_PARSED_NODE = re.compile(r"arsing node: (\S+) \[(\w+)\]$")


class Figures(object):
    """Reads lines as they come, and keeps the last ones of warnings and errors.

    Attributes: `values` (dict: the figures that were told); `errors` (list of str, in order); `node`: the node that
        the parser was at last, as `name (Operator)`; empty where it does not say.
    """

    def __init__(self):
        self.values = {}
        self.errors = []
        self.node = ""
        self._last = collections.deque(maxlen=KEPT_LINES)

    def read(self, line, level):
        """One message. level: `error`, `warning`, or `info` for all others."""
        for key, pattern in _FIGURES:
            found = pattern.match(line)
            if found:
                self.values[key] = int(found.group(1))
        found = _PARSED_NODE.search(line)
        if found:
            self.node = "%s (%s)" % found.groups()
        if level == "error":
            self.errors.append(line)
        if level != "info":
            self._last.append("%s: %s" % (level, line))

    @property
    def lines(self):
        """The last warnings and errors."""
        return list(self._last)


def logger(trt, figures):
    """TensorRT's logger that gives every message to `figures`. Its base is known only when TensorRT is."""
    severity = trt.ILogger.Severity
    levels = {severity.INTERNAL_ERROR: "error", severity.ERROR: "error", severity.WARNING: "warning"}

    class Log(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, msg):
            figures.read(msg, levels.get(severity, "info"))

    return Log()
