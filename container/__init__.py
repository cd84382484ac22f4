"""The image: its health check, and the script that builds and tries it."""
