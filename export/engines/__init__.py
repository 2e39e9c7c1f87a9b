"""Graphs become TensorRT engines: profiles, one build process per library, records in the bundle."""
