"""Decisions about workflows: plain values in, plain values out."""
