"""Where along each ray the field is evaluated, and what each sample weighs."""
