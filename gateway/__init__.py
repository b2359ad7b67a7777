"""The sysclient service: keeps the binary websockets of real phones, beside the functions."""
