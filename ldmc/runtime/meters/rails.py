"""The power rails of NVIDIA's Jetson modules, by their labels.

Their order differs between boards and between programs (the Nano's are IN, GPU, CPU), so that a rail is never known by
its place.

| label                   | board                          | feeds                           |
|-------------------------|--------------------------------|---------------------------------|
| POM_5V_IN               | Nano                           | the whole module                |
| POM_5V_GPU, POM_5V_CPU  | Nano                           | a part of it                    |
| VDD_IN                  | Orin Nano, Orin NX, Xavier NX, TX2 | the whole module            |
| VDD_CPU_GPU_CV, VDD_SOC | Orin Nano, Orin NX             | a part of it                    |

AGX boards have no rail for the whole, and what their rails leave out differs: they have no number here.
Source: https://docs.nvidia.com/jetson/archives/r35.6.0/DeveloperGuide/, "Software-Based Power Consumption Modeling".
"""

WHOLE = ("VDD_IN", "POM_5V_IN")
NANO = ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")


def whole_module(rails):
    """The label of the rail that feeds the whole module; None where there is none among `rails`."""
    for label in WHOLE:
        if label in rails:
            return label
    return None


def missing(where, rails):
    """One sentence: `where` has these rails, and none is the module's."""
    return "%s has no rail of the whole module (%s), only: %s" % (
        where, " or ".join(WHOLE), ", ".join(sorted(rails)) or "none")
