"""File handling independent of content: atomic writes, journals, locks, checksums, and mlip's own folders."""
