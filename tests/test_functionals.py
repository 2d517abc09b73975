"""Names of functionals: which are the same, which differ, and what a run type means."""

import pytest

from mlip.errors import MlipError
from mlip.functionals import check_functionals, functional_of_run_type, relation_of_functionals


@pytest.mark.parametrize(
    ("first", "second", "relation"),
    [
        ("R2SCAN", "r2-SCAN", "same"),
        ("PBE", "PBE+U", "different"),
        ("PBE", "surrogate-mace", "different"),
        ("PBE", "unknown", "unknown"),
        ("PBE | PBEsol", "PBEsol", "same"),
        ("PBE | PBEsol", "SCAN", "different"),
        ("PBE | unknown", "SCAN", "unknown"),
    ],
)
def test_names_mean_the_same_whatever_their_case_and_a_mixture_has_each_of_its_members(first, second, relation):
    assert relation_of_functionals(first, second) == relation
    assert relation_of_functionals(second, first) == relation


@pytest.mark.parametrize(
    ("run_type", "functional", "level"),
    [
        ("GGA", "unknown", "PBE"),
        ("GGA+U", "unknown", "PBE+U"),
        ("GGA+U", "PBE", "PBE+U"),
        ("GGA_U", "PBE", "PBE+U"),
        ("GGA+U", "PBE+U", "PBE+U"),
        ("GGA", "PBEsol", "PBEsol"),
        ("R2SCAN", "PBE", "R2SCAN"),
        (None, "PBE", "PBE"),
        ("", "SCAN", "SCAN"),
    ],
)
def test_a_run_type_tells_hubbard_corrections_and_other_functionals(run_type, functional, level):
    assert functional_of_run_type(run_type, functional) == level


def test_what_differs_is_refused_unless_allowed_and_what_is_unknown_is_told():
    nouns = {"of_ours": "the potential", "of_theirs": "the labels"}
    with pytest.raises(MlipError, match=r"the potential is of PBE, the labels of PBEsol.*--allow-functional-mismatch"):
        check_functionals("PBE", ["PBE", "PBEsol"], **nouns)
    assert "as allowed" in check_functionals("PBE", ["PBEsol"], **nouns, allowed=True)
    assert "not compared" in check_functionals("unknown", ["PBE"], **nouns)
    assert check_functionals("PBE", ["pbe"], **nouns) is None
