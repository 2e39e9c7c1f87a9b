"""What a bundle holds: its manifest, graphs and weights, engine records and the sizes that engines were built for.

Modules here are frozen values, or checks of files of the bundle. `ports` holds the names that exporter and runtime
share. Running an engine belongs to `backends`, and writing a bundle from a checkpoint belongs to `latentrt.export`.
"""
