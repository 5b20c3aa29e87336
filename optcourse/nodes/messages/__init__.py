"""Messages: compressors, and the payloads whose bytes are counted."""
