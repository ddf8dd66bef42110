"""INA3221 in sysfs, as JetPack 4 and JetPack 5 and 6 lay it out."""

import pytest

from ldmc.runtime.meters import MeterProblem
from ldmc.runtime.meters.ina3221 import INA3221
from tests.runtime.meters.machines import nano, orin, read_all, write

NANO_FOLDER = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
ORIN_FOLDER = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"


def reading_of(root):
    return read_all(INA3221(str(root), None), 1)[0]


@pytest.mark.parametrize("labels", [True, False])
def test_a_nano(tmp_path, labels):
    """Without labels, the documented order: IN, GPU, CPU."""
    found = reading_of(nano(tmp_path, 4200, 1500, 900, labels))
    assert found.value == 4.2
    assert found.rails == {"POM_5V_IN": 4.2, "POM_5V_GPU": 1.5, "POM_5V_CPU": 0.9}
    assert found.used_bytes == 1000000 * 1024
    assert INA3221(str(tmp_path), None).title == "INA3221, POM_5V_IN"


def test_labels_are_believed_before_the_order(tmp_path):
    nano(tmp_path)
    for channel, label in enumerate(["POM_5V_CPU", "POM_5V_IN", "POM_5V_GPU"]):
        write(tmp_path, f"{NANO_FOLDER}/rail_name_{channel}", label)
    assert reading_of(tmp_path).rails == {"POM_5V_CPU": 4.2, "POM_5V_IN": 1.5, "POM_5V_GPU": 0.9}


def test_an_orin(tmp_path):
    found = reading_of(orin(tmp_path))
    assert found.value == pytest.approx(5.7)
    assert found.rails == pytest.approx({"VDD_IN": 5.7, "VDD_CPU_GPU_CV": 0.82834, "VDD_SOC": 1.62324})
    assert found.used_bytes is None


def test_channels_that_lead_nowhere_are_left_out(tmp_path):
    orin(tmp_path)
    write(tmp_path, f"{ORIN_FOLDER}/in2_label", "NC")
    (tmp_path / ORIN_FOLDER / "curr3_input").unlink()
    assert list(reading_of(tmp_path).rails) == ["VDD_IN"]


def test_each_reading_is_a_fresh_one(tmp_path):
    meter = INA3221(str(nano(tmp_path)), None)
    assert meter.read().value == 4.2
    write(tmp_path, f"{NANO_FOLDER}/in_power0_input", 9000)
    assert meter.read().value == 9.0


def test_a_chip_without_the_rail_of_the_whole_has_no_number(tmp_path):
    orin(tmp_path)
    write(tmp_path, f"{ORIN_FOLDER}/in1_label", "VDD_GPU_SOC")
    with pytest.raises(MeterProblem, match="INA3221 has no rail of the whole module .* only: VDD_CPU_GPU_CV"):
        INA3221(str(tmp_path), None)


def test_a_chip_that_stops_answering_is_a_sentence(tmp_path):
    meter = INA3221(str(nano(tmp_path)), None)
    (tmp_path / NANO_FOLDER / "in_power2_input").unlink()
    with pytest.raises(MeterProblem, match="INA3221 cannot be read: .*in_power2_input"):
        meter.read()


def test_a_machine_without_one(tmp_path):
    with pytest.raises(MeterProblem, match="there is no INA3221"):
        INA3221(str(tmp_path), None)
