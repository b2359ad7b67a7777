"""What `make bench` runs: cold starts and handlers, as ratios against bare botocore."""
