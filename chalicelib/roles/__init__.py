"""The systems of the concept, a module each: what they do, in terms of core and storage."""
