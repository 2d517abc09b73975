"""The report of a run: its records, its pictures, and one HTML page of both."""
