"""What the arrays of a batch look like."""
