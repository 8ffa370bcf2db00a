"""The language: text → expression tree. See `parse_system`."""

from opdsl.grammar.parse import parse_system

__all__ = ["parse_system"]
