"""HTTP: a blueprint per audience; parse, one call to a role, render."""
