"""Runs the gateway: `python -m gateway`, gateway/Dockerfile."""

import asyncio

from chalicelib import observability
from gateway import server

if __name__ == "__main__":
    asyncio.run(server.main(observability.logger().info))
