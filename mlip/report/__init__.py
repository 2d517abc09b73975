"""Building blocks of the HTML reports. A report is one self-contained file, which needs no network."""
