"""Experiments: configurations, studies, and the ledger of what they gave."""
