"""The commands that check results without the checkpoint: `latentrt selftest` and `latentrt compare`.

`latentrt verify` compares a bundle with its checkpoint, and stands with the other commands.
"""
