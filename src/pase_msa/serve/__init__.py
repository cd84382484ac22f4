"""Prediction from a saved model."""
