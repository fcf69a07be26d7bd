"""The clients of stores, one module each: what speaks with a server, in tries that ``retrying`` repeats."""
