"""The embedded demo: two small trained models, a photograph, drawn inputs, and the run that shows them."""
