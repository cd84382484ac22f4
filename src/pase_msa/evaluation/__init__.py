"""Evaluation: metrics on the test split, subsets of modalities, contributions, calibration, reports."""
