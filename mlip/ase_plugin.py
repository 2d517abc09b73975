"""Registers the calculator as "mlip" in ASE's plugin system, which is experimental in ASE 3.29."""

try:
    from ase._4.plugins.plugin import CalculatorPlugin
except ImportError:  # this ASE has no such plugin system, or keeps it elsewhere
    __ase_plugins__ = set()
else:
    __ase_plugins__ = {
        CalculatorPlugin(
            name="mlip", implementation="mlip.calculator.MLIPCalculator", citation="doi:10.1016/j.mtphys.2024.101560"
        )
    }
