"""The rows that "Improving machine-learning models in materials science through large datasets" published, to stand
beside ours: J. Schmidt et al., Materials Today Physics 48, 101560 (2024).

As printed there; a number that is not here is not at hand. In Table 4 its column "MPE" holds mean signed errors in
eV/atom, DFT minus potential: our ME with the other sign.
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
"""Table 4, likewise."""

HULL: dict[str, dict[str, str]] = {
    "M3GNet": {"mad": "0.038", "mae": "0.060", "seconds": "1.96 (a core)"},
    "MACE": {"mad": "0.022", "mae": "0.039", "seconds": "12.1 (a core), 1.4 (V100)"},
    "CGAT": {"mad": "0.023", "mae": "0.060", "seconds": "0.002 (V100)"},
}
"""Table 5: potential -> field of `HullErrors`, and seconds a structure."""
