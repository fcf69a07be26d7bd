"""``stoker-check``: decodes all pictures of a dataset once, and reports what a run would skip and what looks wrong."""
