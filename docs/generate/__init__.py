"""Pages of the documentation that are generated from the code's own tables."""
