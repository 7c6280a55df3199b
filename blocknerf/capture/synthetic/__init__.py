"""The sample city: an analytic, procedural town, exact from everywhere, and captures of it."""

from blocknerf.compilation import keep_compiled

keep_compiled()
