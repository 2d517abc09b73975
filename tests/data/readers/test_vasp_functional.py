"""What a VASP run's functional is called."""

import pytest

from mlip.data.readers.vasp_functional import functional_of_run

PBE = ["PAW_PBE Cu 22Jun2005", "PAW_PBE O 08Apr2002"]


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({}, "PBE"),
        ({"GGA": "--"}, "PBE"),
        ({"GGA": "Pe"}, "PBE"),
        ({"gga": "PS"}, "PBEsol"),
        ({"GGA": "RP"}, "RPBE"),
        ({"GGA": "RE"}, "revPBE"),
        ({"METAGGA": "r2SCAN"}, "R2SCAN"),
        ({"METAGGA": "None", "GGA": "PS"}, "PBEsol"),
        ({"METAGGA": "--"}, "PBE"),
        ({"LDAU": True}, "PBE+U"),
        ({"LDAU": ".TRUE.", "IVDW": 12}, "PBE+U+vdW-DFT-D3-BJ"),
        ({"LDAU": ".F."}, "PBE"),
        ({"LHFCALC": "T", "HFSCREEN": 0.2, "AEXX": 0.25}, "HSE06"),
        ({"LHFCALC": True, "HFSCREEN": 0.2, "AEXX": 0.25, "GGA": "PS"}, "HSEsol"),
        ({"LHFCALC": True, "HFSCREEN": 0.0, "AEXX": 0.25}, "PBE0"),
        ({"LHFCALC": True, "HFSCREEN": 0.2, "AEXX": 0.35}, "PBE-hybrid(AEXX=0.35,HFSCREEN=0.2)"),
        ({"LHFCALC": "F", "AEXX": 0.25, "HFSCREEN": 0.2}, "PBE"),
        ({"LUSE_VDW": "T", "METAGGA": "SCAN"}, "SCAN+rVV10"),
        ({"LUSE_VDW": "T", "GGA": "BO"}, "optB88-vdW"),
        ({"LUSE_VDW": "T", "GGA": "MK", "Zab_VDW": -1.8867}, "rev-vdW-DF2"),
        ({"LUSE_VDW": ".FALSE.", "GGA": "MK"}, "optB86b"),
    ],
)
def test_tags_tell_the_functional_and_pseudopotentials_what_tags_leave_to_them(tags, name):
    assert functional_of_run(tags, PBE) == name


@pytest.mark.parametrize("value", [None, "None", 0, "0", "", "F"])
def test_no_dispersion_correction_is_none(value):
    assert functional_of_run({"IVDW": value}, PBE) == "PBE"


def test_every_dispersion_correction_has_a_name_of_its_own():
    methods = [("1", "10"), ("11",), ("12",), ("13",), ("2", "20"), ("21",), ("202",), ("3",), ("4",), ("14",), ("15",)]
    names = [{functional_of_run({"IVDW": value}, PBE, "6.3.0") for value in values} for values in methods]
    assert all(len(of_method) == 1 for of_method in names)
    assert len(set.union(*names, {"PBE"})) == len(methods) + 1


def test_what_a_version_cannot_mean_is_unknown_with_its_value():
    assert functional_of_run({"IVDW": 13}, PBE, "vasp.6.2.1") == "PBE+vdW-DFT-D4"
    assert functional_of_run({"IVDW": 13}, PBE, "5.4.4") == "PBE+vdW-unknown(IVDW=13)"
    assert functional_of_run({"IVDW": 13}, PBE) == "PBE+vdW-unknown(IVDW=13)"
    assert functional_of_run({"IVDW": 77}, PBE, "6.4.2") == "PBE+vdW-unknown(IVDW=77)"


def test_the_old_switch_means_d2_unless_the_new_tag_is_set():
    assert functional_of_run({"LVDW": "T"}, PBE) == functional_of_run({"IVDW": 1}, PBE) == "PBE+vdW-DFT-D2"
    assert functional_of_run({"LVDW": "T", "IVDW": 11}, PBE) == "PBE+vdW-DFT-D3"


def test_potentials_that_may_be_of_two_kinds_tell_nothing():
    assert functional_of_run({"GGA": "--"}, ["PAW Cu 19Jan2000"]) is None
