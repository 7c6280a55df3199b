"""The sample city: an analytic, procedural town, exact from everywhere, and captures of it."""
