"""Potentials as a task of training: energies, forces and stresses of frames, on one energy scale or several."""
