"""Readers of slide formats, one file per format family."""
