"""Model configs: frozen, checked values with the field names of diffusers, one module per family.

`families` says where each family's parts stand, and `model_config` what code for all families asks of a config. A
config opens no file. Numbers that change pixels are never guessed. What a call does with a config belongs to `calls`
and `execution`.
"""
