"""What commands print: lines, tables, progress and errors on a terminal, and reports as JSON.

What is measured or computed for them belongs to the commands, or to the packages below.
"""
