"""The calculator as ASE's plugin system (experimental in ASE 3.29) finds it, by the name mlip."""

try:
    from ase._4.plugins.plugin import CalculatorPlugin
except ImportError:  # an ASE without that system, or with it elsewhere
    __ase_plugins__ = set()
else:
    __ase_plugins__ = {
        CalculatorPlugin(
            name="mlip", implementation="mlip.calculator.MLIPCalculator", citation="doi:10.1016/j.mtphys.2024.101560"
        )
    }
