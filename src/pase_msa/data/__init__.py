"""Feature tables: what they hold, where they come from, how they become batches."""

from pase_msa.data.opening import open_table
from pase_msa.data.table import FeatureTable, Schema, Utterance

__all__ = ["FeatureTable", "Schema", "Utterance", "open_table"]
