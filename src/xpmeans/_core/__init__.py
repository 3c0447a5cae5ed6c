"""The algorithm in standard array operations only; nothing here knows a library's name."""
