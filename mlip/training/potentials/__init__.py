"""Training of potentials: energies, forces and stresses of frames, on one energy scale or several."""
