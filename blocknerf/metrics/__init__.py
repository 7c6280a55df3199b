"""How good a picture is, and how calm a film."""
