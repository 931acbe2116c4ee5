"""The command `minidl`: main.py finds the command, one file holds each, and heavy imports wait until it runs."""
