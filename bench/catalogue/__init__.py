"""Flows of other people's libraries, as their documentation builds them: one library per file.

Every file defines `FLOWS: dict[str, Callable[[], nn.Module]]`, makers by family and size.
"""
