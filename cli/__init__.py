"""The command line `latentrt`: one module per command, its options and its messages.

A command checks what the user typed, calls the public Python functions, and prints. What a command does belongs to
`latentrt.export` and `latentrt.runtime`; nothing imports `latentrt.cli`.
"""
