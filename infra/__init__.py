"""What is deployed beside the code, and how."""
