"""Readers: from the output files of a program to numbers, or to the reason why there are none; one file a code."""
