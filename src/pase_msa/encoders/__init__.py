"""Encoders: a sequence and its length become one vector."""
