"""A synthetic benchmark with a known contribution of every modality and a known best score."""
