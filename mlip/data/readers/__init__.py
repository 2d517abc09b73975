"""Readers that turn files of every format into Entry, Trajectory or Skipped, one material at a time. `sources` chooses
the reader of a file."""
