"""Published results, quoted in the tables beside ours. Numbers that are not listed here are not known to us.

Tables 3 to 5 are of "Improving machine-learning models in materials science through large datasets" (J. Schmidt et al.,
Materials Today Physics 48, 101560 (2024)), as printed there. Its column "MPE" in Table 4 holds mean signed errors in
eV/atom, DFT minus potential: our ME with the opposite sign.
"""

CITATION = (
    "J. Schmidt et al., Materials Today Physics 48, 101560 (2024), on its own test sets; '-' where its number is not "
    "at hand"
)

VOLUME: dict[int, dict[str, dict[str, str]]] = {
    3: {
        "M3GNet": {"failed_percent": "0.0057", "outlier_percent": "0.47", "mpe": "-1.3", "mape": "4.6", "mae": "1.2"},
        "MACE": {"failed_percent": "0.12", "outlier_percent": "0.13", "mpe": "-0.40", "mape": "3.5", "mae": "0.89"},
        "M3GNet-2D": {"failed_percent": "0.098", "outlier_percent": "0.24"},
    },
    2: {"M3GNet": {"mape": "6.9"}, "MACE": {"mape": "6.2"}, "MACE-2D": {"mape": "5.5"}},
}
"""Table 3: dimensionality -> potential -> field of `ErrorSummary`."""

ENERGY: dict[int, dict[str, dict[str, str]]] = {
    3: {
        "M3GNet": {"outlier_percent": "0.10", "mean_error": "0.10", "mae": "0.12"},
        "MACE": {"outlier_percent": "0.035", "mae": "0.078"},
        "M3GNet-2D": {"outlier_percent": "16"},
    },
    2: {"M3GNet": {"mae": "0.20"}, "MACE": {"mae": "0.088"}, "MACE-2D": {"mae": "0.045"}},
}
"""Table 4: dimensionality -> potential -> field of `ErrorSummary`."""

HULL: dict[str, dict[str, str]] = {
    "M3GNet": {"mad": "0.038", "mae": "0.060", "seconds": "1.96 (a core)"},
    "MACE": {"mad": "0.022", "mae": "0.039", "seconds": "12.1 (a core), 1.4 (V100)"},
    "CGAT": {"mad": "0.023", "mae": "0.060", "seconds": "0.002 (V100)"},
}
"""Table 5: potential -> field of `HullErrors`, and seconds for a structure."""

RESPONSES_CITATION = (
    "(MatPES): A. D. Kaplan et al., arXiv:2503.04070 (2025), of all 3,959 (moduli) and 1,170 (Cv) materials by "
    "matcalc's protocol; from materialsvirtuallab/matpes, pages/matcalc-benchmark-pbe.csv, commit 61954c0"
)

RESPONSES: dict[str, dict[str, dict[str, str]]] = {
    "elasticity": {
        "M3GNet, MPF": {"bulk_modulus": "21.36", "shear_modulus": "40.97"},
        "M3GNet, MatPES": {"bulk_modulus": "26.11", "shear_modulus": "25.30"},
        "CHGNet, MPtrj": {"bulk_modulus": "17.45", "shear_modulus": "29.59"},
        "CHGNet, MatPES": {"bulk_modulus": "23.73", "shear_modulus": "20.61"},
        "TensorNet, MatPES": {"bulk_modulus": "18.02", "shear_modulus": "14.82"},
    },
    "phonons": {
        "M3GNet, MPF": {"heat_capacity": "30.42"},
        "M3GNet, MatPES": {"heat_capacity": "27.25"},
        "CHGNet, MPtrj": {"heat_capacity": "23.57"},
        "CHGNet, MatPES": {"heat_capacity": "22.83"},
        "TensorNet, MatPES": {"heat_capacity": "13.27"},
    },
}
"""Mean absolute errors over all values: suite -> network and its training data -> quantity."""
