"""Pictures from anything that satisfies the field protocol."""
