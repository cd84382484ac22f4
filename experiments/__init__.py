"""Experiments: configurations, studies, and the ledger of their results."""
