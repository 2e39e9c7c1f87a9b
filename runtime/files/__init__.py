"""From file to file: what `latentrt encode` and `latentrt decode` do, as functions.

Formats of files belong to `media`; options and messages of the command line belong to `latentrt.cli`.
"""
