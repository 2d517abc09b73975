"""Report of a run: its records and charts in one HTML page."""
