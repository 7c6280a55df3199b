"""Volume rendering of any field that satisfies the protocol."""
