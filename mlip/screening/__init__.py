"""Screening: prototypes combined with elements, judged by a property model before any relaxation."""
