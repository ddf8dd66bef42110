"""What a bench found, as a dictionary for JSON: README's section "JSON" has the keys."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ldmc.compiler.fidelity.decibels import psnr_db
from ldmc.runtime.level import level_record
from ldmc.runtime.png import encode_png

if TYPE_CHECKING:
    from ldmc.compiler.levels.bench import BenchRequest, Contestant
    from ldmc.runtime.meters import Recorder
