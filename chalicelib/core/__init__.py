"""The rules of provisioning, pure: standard library only, no I/O; time is an argument."""
