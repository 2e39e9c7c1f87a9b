"""Which parts of a graph can run in float16 or bfloat16, and the value ranges that say so."""
