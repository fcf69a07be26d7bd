"""What a run tells those who look at it: the status address, its pages and figures."""
