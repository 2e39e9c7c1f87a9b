"""The options that several commands share, the types of their values, and their former names.

An option of one command belongs to the module of that command.
"""
