"""Screening: prototypes x elements, judged by a property model before anything is relaxed."""
