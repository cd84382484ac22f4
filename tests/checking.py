"""The type checker behind the shape checks."""

from beartype import BeartypeConf, beartype

# an int is as good as a float, as it is everywhere in Python's types
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
