"""The commands, one file each: `opchat chat` is `chat.py`."""
