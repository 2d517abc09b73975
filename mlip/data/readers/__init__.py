"""Files of every format -> Entry, Trajectory, Skipped, material by material. `sources` says who reads what."""
