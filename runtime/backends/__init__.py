"""Bundle in, arrays out."""
