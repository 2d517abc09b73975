"""Matbench Discovery's test on WBM: relaxations by the engine of the relaxation benchmark, the files of a submission,
and its metrics of geometries and of stability (J. Riebesell et al., Nat. Mach. Intell. 7, 836 (2025); repository
janosh/matbench-discovery)."""
