"""Sessions of the official Python client with each service of `tc-worker queue`: one file per service, each with its CHECKS."""
