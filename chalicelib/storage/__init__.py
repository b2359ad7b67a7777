"""DynamoDB and the vault: a module per table. AWS failures become core errors here."""
