"""Encoding and decoding from file to file: the functions behind `latentrt encode` and `latentrt decode`.

`encoded_file` and `decoded_file` hold these functions; the other modules are their parts. Reading and writing file
formats belongs to `media`. Options and output of the command line belong to `latentrt.cli`.
"""
