"""What releases left in the tables, and that the code of today goes on with it."""
