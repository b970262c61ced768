"""Measurements of headgate on this machine: `make bench NAME=gateway`."""
