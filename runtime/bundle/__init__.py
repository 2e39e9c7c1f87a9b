"""What a bundle holds: its manifest, graphs and their weights, engine records and the sizes they were built for.

Everything here is a frozen value or a check of a file of the bundle. Nothing here runs an engine (`backends` does) or
writes a bundle from a checkpoint (`latentrt.export` does).
"""
