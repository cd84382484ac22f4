"""Commands of the command line, by the part of the library that they belong to."""
