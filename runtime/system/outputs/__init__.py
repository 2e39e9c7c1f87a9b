"""Outputs that are whole or absent: partial files and folders next to their place, the marks of their writers, what
killed writers left, and claims that let several processes share a folder.

What an output holds belongs to the rooms that write it.
"""
