"""Both journeys, from the box to the last message, while AWS does what AWS does."""
