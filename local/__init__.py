"""The service on one machine, for trying and testing; never deployed."""
