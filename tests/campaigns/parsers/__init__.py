"""The parsers that are tried with damaged files: one entry for each, with valid files, a mutator, and how to read.

A new parser is one function that gives its `Subject`, and one line in a table of `PARSERS`.
"""
